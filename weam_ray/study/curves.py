"""Four forms that a gain may take as bitext grows.

The gain over no pre-training, ``g(n)``, is 0 without bitext:

=============  =====================  ==========================================
constant       ``a``                  any bitext helps, more does not
log-linear     ``a + b log2(n)``      every doubling adds b
power          ``a n^b``, 0 < b <= 1  no end in sight, but slower and slower
saturating     ``a n / (n + k)``      an end at a, half of it at k pairs
=============  =====================  ==========================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Form = Literal["constant", "log-linear", "power", "saturating"]
FORMS: tuple[Form, ...] = ("constant", "log-linear", "power", "saturating")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fitted curves of one form, one a row of the gains: ``g(n) = level + scale f(n; shape)``."""

    form: Form
    level: Array
    scale: Array
    shape: Array

    def at(self, sizes: Array) -> Array:
        """Gains at sizes n > 0: shape (curves, sizes)."""
        basis = _basis(self.form, np.asarray(sizes, float)[None, :], self.shape[:, None])
        return np.asarray(self.level[:, None] + self.scale[:, None] * basis)

    def size_for(self, gain: float) -> Array:
        """Where each curve reaches a gain: inf where it never does, 0 where it always has."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.form == "constant":
                return np.where(self.level >= gain, 0.0, np.inf)
            if self.form == "log-linear":
                exponent = (gain - self.level) / self.scale
                sizes = np.exp2(np.minimum(exponent, 1000.0))
            elif self.form == "power":
                sizes = (gain / self.scale) ** (1 / self.shape)
            else:
                sizes = np.where(self.scale > gain, gain * self.shape / (self.scale - gain), np.inf)
        return np.where(self.scale > 0, sizes, np.inf)


def _basis(form: Form, sizes: Array, shape: Array) -> Array:
    if form == "log-linear":
        return np.asarray(np.log2(sizes) + 0 * shape)
    if form == "power":
        return np.asarray(sizes**shape)
    if form == "saturating":
        return np.asarray(sizes / (sizes + shape))
    return np.zeros(np.broadcast_shapes(sizes.shape, shape.shape))


def fit(form: Form, sizes: Sequence[int], gains: Array) -> Fit:
    """Least squares by profile over the non-linear parameter: no start value, no local optimum.

    Args:
        form: one of :data:`FORMS`.
        sizes: K sizes.
        gains: shape (curves, K).
    """
    n, y = np.array(sizes, float), np.atleast_2d(np.asarray(gains, np.float64))
    zero = np.zeros(len(y))
    if form == "constant":
        return Fit(form=form, level=y.mean(1), scale=zero, shape=zero)
    if form == "log-linear":
        x = np.log2(n)
        spread = ((x - x.mean()) ** 2).sum()
        slope = (y - y.mean(1, keepdims=True)) @ (x - x.mean()) / spread
        return Fit(form=form, level=y.mean(1) - slope * x.mean(), scale=slope, shape=zero)
    shapes = (
        np.linspace(0.01, 1.0, 100)
        if form == "power"
        else np.geomspace(n.min() / 30, n.max() * 30, 120)
    )
    basis = _basis(form, n[None, :], shapes[:, None])  # (shapes, K)
    norms = (basis**2).sum(1)
    scales = y @ basis.T / norms  # (curves, shapes)
    errors = (y**2).sum(1, keepdims=True) - scales**2 * norms
    best = errors.argmin(1)
    return Fit(form=form, level=zero, scale=scales[np.arange(len(y)), best], shape=shapes[best])
