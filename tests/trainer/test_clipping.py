"""Proves that gradients are clipped as torch clips them, to the last bit."""

import pytest
import torch
from torch import nn

from trainer.clipping import clip


def _gradients(scale: float) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(n, 3)) for n in (5, 1, 7)]
    for one in parameters:
        one.grad = scale * torch.randn(one.shape, generator=generator)
    return parameters


@pytest.mark.parametrize("scale", [1e-3, 1.0, float("nan")])
def test_as_torch(scale: float) -> None:
    mine, theirs = _gradients(scale), _gradients(scale)
    clip([p.grad for p in mine if p.grad is not None], 1.0)
    nn.utils.clip_grad_norm_(theirs, 1.0, foreach=True)
    for a, b in zip(mine, theirs, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert a.grad.numpy().tobytes() == b.grad.numpy().tobytes()


def test_nothing_to_clip() -> None:
    clip([], 1.0)
