"""How long may a step's gradient be? Scaled down to a norm, as torch.nn.utils.clip_grad_norm_ does it, to the bit."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def clip(gradients: list[Tensor], most: float) -> None:
    """Multiply them by min(1, most/norm) in place; their norm is that of all as one vector.

    torch's own sorts them by device and type at every call, twice. Where nobody waits for a device, gradients that
    are short enough are not touched.
    """
    if not gradients:
        return
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    if factor.device.type == "cpu" and float(factor) == 1.0:
        return
    torch._foreach_mul_(gradients, factor)
