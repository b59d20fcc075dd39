"""Which network for points rather than images? A residual perceptron for toy data."""

import math
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from trainer.models.embedding import NoiseLevelEmbedding
from trainer.spec import Spec


class MLP(Spec):
    """Residual perceptron on the flattened input; for toy data and tests."""

    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = 64
    """Hidden units."""
    depth: PositiveInt = 2
    """Residual layers."""

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        """The module for examples of `shape`, initialized from torch's current generator."""
        return _MLP(self, math.prod(shape))


class _MLP(nn.Module):
    def __init__(self, spec: MLP, size: int) -> None:
        super().__init__()
        self.embed = NoiseLevelEmbedding(32, spec.width)
        self.inward = nn.Linear(size, spec.width)
        self.layers = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(spec.depth))
        self.outward = nn.Linear(spec.width, size)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.inward(x.flatten(1)) + self.embed(condition)
        for layer in self.layers:
            h = h + torch.nn.functional.silu(layer(torch.nn.functional.silu(h)))
        return self.outward(torch.nn.functional.silu(h)).reshape(x.shape)
