"""Which network for points rather than images? A residual perceptron for toy data."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from trainer.models.embedding import NoiseLevelEmbedding
from trainer.spec import Spec


class MLP(Spec):
    """Residual perceptron on the flattened input; for toy data and tests."""

    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = 64
    """Hidden units."""
    depth: Annotated[int, Field(ge=1, le=1000)] = 2
    """Residual layers."""
    classes: PositiveInt | None = None
    """Labels 0..classes-1 condition the network, `classes` is "no label"; null: unconditional."""

    def build(
        self, shape: tuple[int, ...], output_channels: int | None = None, vector: int = 0
    ) -> nn.Module:
        """The module for examples of `shape`, initialized from torch's current generator.

        Its output has `output_channels` in place of shape[0]; it may be told a `vector` of that many entries.
        """
        return _MLP(self, shape, (output_channels or shape[0], *shape[1:]), vector)


Perceptrons = MLP
"""The members of this file: a new network of points is one class above and one name here."""


class _MLP(nn.Module):
    def __init__(
        self, spec: MLP, shape: tuple[int, ...], output: tuple[int, ...], vector: int
    ) -> None:
        super().__init__()
        self.output = output
        self.embed = NoiseLevelEmbedding(32, spec.width, classes=spec.classes, vector=vector)
        self.inward = nn.Linear(math.prod(shape), spec.width)
        self.layers = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(spec.depth))
        self.outward = nn.Linear(spec.width, math.prod(output))
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        h = self.inward(x.flatten(1)) + self.embed(condition, labels, vector)
        for layer in self.layers:
            h = h + torch.nn.functional.silu(layer(torch.nn.functional.silu(h)))
        return self.outward(torch.nn.functional.silu(h)).reshape(len(x), *self.output)
