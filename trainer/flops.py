"""How much work is one training image? Floating point operations, counted on shapes alone."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def flops_per_image(network: nn.Module, shape: tuple[int, ...], vector: int = 0) -> float | None:
    """Of one forward and one backward pass of the network for one input [C, H, W]; a multiply-add counts as two.

    Matrix products, convolutions and attention are counted, as FLOPs of papers are; what a checkpointed training
    computes again, the optimizer and the averages are not. Nothing is computed, no random number is drawn. None for
    a network that needs more than shapes.
    """
    twin = copy.deepcopy(network).to("meta").eval().requires_grad_(True)
    one = torch.zeros((1, *shape), device="meta")
    level = torch.zeros((1,), device="meta")
    told = {"vector": torch.zeros((1, vector), device="meta")} if vector else {}
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.enable_grad():
            twin(one, level, **told).sum().backward()
    except (RuntimeError, NotImplementedError):
        return None
    return float(counter.get_total_flops())
