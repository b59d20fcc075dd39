"""The module of `mlp`: residual layers on the flattened example."""

import math

import torch
from torch import Tensor, nn

from trainer.models.embedding import NoiseLevelEmbedding


class Perceptron(nn.Module):
    """Told noise level, label and vector by a sum."""

    def __init__(
        self,
        width: int,
        depth: int,
        shape: tuple[int, ...],
        output: tuple[int, ...],
        vector: int,
        classes: int | None,
    ) -> None:
        super().__init__()
        self.output = output
        self.embed = NoiseLevelEmbedding(32, width, classes=classes, vector=vector)
        self.inward = nn.Linear(math.prod(shape), width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.outward = nn.Linear(width, math.prod(output))
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """x [B, ...], condition [B], labels [B], vector [B, V] -> like x."""
        h = self.inward(x.flatten(1)) + self.embed(condition, labels, vector)
        for layer in self.layers:
            h = h + torch.nn.functional.silu(layer(torch.nn.functional.silu(h)))
        return self.outward(torch.nn.functional.silu(h)).reshape(len(x), *self.output)
