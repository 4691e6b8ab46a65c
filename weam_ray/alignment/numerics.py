"""Compiled arithmetic that gives the same bits on every machine: no ``fastmath``, no libm.

Array types in lower case are read only, so that memory shared by other processes will do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LEAST = 1e-300
"""What a probability is taken to be, at least, when its logarithm is wanted."""

_SMALL = 1e-150
_TINY = 1e-100
u8, i16, i32, i64, f64, flags = (
    types.Array(kind, 1, "C", readonly=True)
    for kind in (
        types.uint8, types.int16, types.int32, types.int64, types.float64, types.boolean
    )
)  # fmt: skip
f64x2 = types.Array(types.float64, 2, "C", readonly=True)
U8, U16, I16, I32, I64, F64, FLAGS = (
    types.Array(kind, 1, "C")
    for kind in (
        types.uint8, types.uint16, types.int16, types.int32, types.int64, types.float64,
        types.boolean,
    )
)  # fmt: skip
F64x2 = types.Array(types.float64, 2, "C")


def kernel(signature: Any) -> Any:
    """Compile a function for one signature, when its module is imported.

    The numpy error model lets loops with divisions vectorise. Compiled code is kept beside the
    module, or in the user's cache folder where that is read-only.
    """
    return njit(signature, cache=True, nogil=True, error_model="numpy")


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view, as kernels take their input in tuples."""
    view = array.view()
    view.flags.writeable = False
    return view


@njit(inline="always")
def exp(x):  # type: ignore[no-untyped-def]
    """The exponential for x <= 700, and of -700 below that; relative error below 4e-16.

    A Taylor polynomial on |r| <= ln(2) / 2. The magic constant rounds to the nearest integer; the
    shift puts it into the exponent's bits.
    """
    x = max(x, -700.0)
    k = (x * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@njit(inline="always")
def exp_digamma(x):  # type: ignore[no-untyped-def]
    """exp(psi(x)) for x > 0; relative error below 2e-11.

    psi(x) = psi(x + 8) - sum of 1 / (x + k), k = 0..7; the eight fractions are paired into one
    division. exp(psi(y + 1/2)) = y + 1 / (24 y) - ... needs no logarithm.
    """
    u = x * (x + 7.0)
    a = u * (u + 6.0)
    b = (u + 10.0) * (u + 12.0)
    s = (2.0 * x + 7.0) * ((2.0 * u + 6.0) * b + (2.0 * u + 22.0) * a) / (a * b)
    y = x + 7.5
    z = 1.0 / (y * y)
    series = 37.0 / 5760.0 - z * (10313.0 / 2903040.0 - z * (5509121.0 / 1393459200.0))
    return y * (1.0 + z * (1.0 / 24.0 - z * series)) * exp(-s)


@njit(inline="always")
def log_of(total, logs, product):  # type: ignore[no-untyped-def]
    """One logarithm for many factors: they are multiplied as long as the product is in range."""
    if total < _TINY:
        return logs + math.log(max(total, LEAST)), product
    product *= total
    if product < _SMALL:
        return logs + math.log(product), 1.0
    return logs, product


@kernel(types.void(f64, types.float64, types.boolean, F64))
def weights(counts, alpha, variational, out):  # type: ignore[no-untyped-def]
    """Unnormalised translation weights: exp(psi(count + alpha)), or the counts themselves."""
    if variational:
        for k in range(counts.size):
            out[k] = exp_digamma(counts[k] + alpha)
    else:
        for k in range(counts.size):
            out[k] = counts[k]


@intrinsic
def prefetch(typing, array, place):  # type: ignore[no-untyped-def]
    """Have the cache line at a flat place of an array brought near.

    Nothing waits for it, it changes nothing, and a place outside of the array does no harm.
    """

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        line = builder.bitcast(builder.gep(data, [values[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [line.type, number, number, number]),
            "llvm.prefetch.p0i8",
        )
        # For reading, into all caches, as data.
        builder.call(function, [line, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, place), generate
