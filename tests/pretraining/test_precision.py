from __future__ import annotations

import pytest
import torch

from weam_ray.pretraining import precision

CPU = torch.device("cpu")


def product() -> torch.dtype:
    with precision.autocast("bf16", CPU):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def on(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    seen = {"avx2": True, "architecture": "x86_64", **capabilities}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: seen)


def test_a_processor_without_bf16_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, avx512_bf16=False, amx_bf16=False)
    assert product() == torch.float32
    assert precision.used("bf16", CPU) == "fp32"


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_one_that_has_it_uses_it_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    on(monkeypatch, **{name: True})
    assert product() == torch.bfloat16
    assert precision.used("bf16", CPU) == "bf16"
    assert precision.used("fp32", CPU) == "fp32"
