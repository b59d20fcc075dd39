"""How are curves without a closed inverse turned around? Elementwise, without loops that depend on data.

Everything keeps dtype and device and compiles in one graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


BISECTIONS = 26
"""With the final secant step the error is about (2^-26)^2, float64's own."""


def invert(rising: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """The x in [0, 1] with rising(x) = value, for a smooth increasing function; clamped to the ends."""
    low, high = torch.zeros_like(value), torch.ones_like(value)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        above = rising(middle) > value
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    at_low, at_high = rising(low), rising(high)
    share = (value - at_low) / (at_high - at_low).clamp_min(torch.finfo(value.dtype).tiny)
    return low + (high - low) * share.nan_to_num(0.0).clamp(0.0, 1.0)


def derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """df/dx of an elementwise function, exact; nothing of it stays in a graph."""
    if (
        torch.compiler.is_compiling()
    ):  # the reverse mode would break the graph, the forward mode is slower outside it
        return torch.func.jvp(function, (x,), (torch.ones_like(x),))[1]
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]


def interpolate(x: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    """Piecewise-linear through increasing (nodes, values), prolonged on the end slopes."""
    right = torch.searchsorted(nodes, x.contiguous()).clamp(1, len(nodes) - 1)
    left = right - 1
    weight = (x - nodes[left]) / (nodes[right] - nodes[left])
    return values[left] + weight * (values[right] - values[left])
