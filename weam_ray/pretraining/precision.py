"""bf16 where the hardware has it, fp32 where it does not.

A processor without bf16 arithmetic multiplies bf16 matrices tens of times slower than fp32 ones
(AMD Zen 3: 70 times), so a study that asks for it would not end there. Autocast keeps weights, loss
and optimiser in fp32 either way; a record says which precision its stage was computed in.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16"]


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 matrices by instructions of its own."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(present for name, present in capabilities.items() if "bf16" in name)


def used(asked: Precision, device: torch.device) -> Precision:
    """The precision that a stage which asks for ``asked`` is computed in."""
    return "bf16" if asked == "bf16" and has_bf16(device) else "fp32"


def autocast(asked: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Forward passes in the precision that a stage's settings ask for, where the device has it."""
    if used(asked, device) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
