"""The module of `dit`: patches to tokens, blocks, tokens to patches."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.embedding import NoiseLevelEmbedding
from trainer.models.layers import zero

SINUSOIDS = 256


@dataclass(frozen=True)
class Tokens:
    """What the network is made of."""

    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    """Width inside perceptrons."""
    dropout: float
    classes: int | None


class Transformer(nn.Module):
    """Patches to tokens, blocks, tokens to patches."""

    def __init__(self, plan: Tokens, shape: tuple[int, ...], out: int, vector: int) -> None:
        super().__init__()
        self.patch, self.out = plan.patch, out
        rows, columns = shape[1] // plan.patch, shape[2] // plan.patch
        self.embed = NoiseLevelEmbedding(
            SINUSOIDS, plan.width, classes=plan.classes, vector=vector, last=False
        )
        self.inward = nn.Linear(shape[0] * plan.patch**2, plan.width)
        self.register_buffer("position", positions(rows, columns, plan.width), persistent=False)
        self.blocks = nn.ModuleList(_Block(plan) for _ in range(plan.depth))
        self.norm = nn.LayerNorm(plan.width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(plan.width, 2 * plan.width)
        self.outward = nn.Linear(plan.width, out * plan.patch**2)
        self._initialize()

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """x [B, ...], condition [B], labels [B], vector [B, V] -> like x."""
        embedded = self.embed(condition, labels, vector)
        patches = functional.pixel_unshuffle(x, self.patch)
        h = self.inward(patches.flatten(2).transpose(1, 2)) + self.position
        for block in self.blocks:
            h = block(h, embedded)
        shift, scale = self.modulation(embedded)[:, None].chunk(2, -1)
        tokens = self.outward(self.norm(h) * (1.0 + scale) + shift)
        patches = tokens.transpose(1, 2).reshape(len(x), -1, *patches.shape[2:])
        return functional.pixel_shuffle(patches, self.patch)

    def _initialize(self) -> None:
        """As published: Xavier, small embeddings, and zero where a block or the output begins."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for name, parameter in self.embed.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)
        zero(self.modulation)
        zero(self.outward)
        for block in self.blocks:
            assert isinstance(block, _Block)
            zero(block.modulation)


class _Block(nn.Module):
    """Attention, then a perceptron; each on a modulated norm and gated."""

    def __init__(self, plan: Tokens) -> None:
        super().__init__()
        self.heads = plan.heads
        self.norm1 = nn.LayerNorm(plan.width, eps=1e-6, elementwise_affine=False)
        self.qkv = nn.Linear(plan.width, 3 * plan.width)
        self.out = nn.Linear(plan.width, plan.width)
        self.norm2 = nn.LayerNorm(plan.width, eps=1e-6, elementwise_affine=False)
        self.perceptron = nn.Sequential(
            nn.Linear(plan.width, plan.hidden), nn.GELU("tanh"), nn.Dropout(plan.dropout),
            nn.Linear(plan.hidden, plan.width), nn.Dropout(plan.dropout),
        )  # fmt: skip
        self.modulation = nn.Linear(plan.width, 6 * plan.width)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """x [B, N, width], embedded [B, width] -> [B, N, width]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(embedded)[:, None].chunk(
            6, -1
        )
        x = x + gate1 * self._attend(self.norm1(x) * (1.0 + scale1) + shift1)
        return x + gate2 * self.perceptron(self.norm2(x) * (1.0 + scale2) + shift2)

    def _attend(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(1, 2).reshape(b, n, width))


def positions(rows: int, columns: int, width: int) -> Tensor:
    """[rows * columns, width]: sines and cosines of the column, then of the row, a quarter of the width each."""
    quarter = width // 4
    rate = torch.exp(-math.log(1e4) * torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing="ij",
    )
    parts = [place.reshape(-1, 1) * rate for place in (column, row)]
    return torch.cat([f(part) for part in parts for f in (torch.sin, torch.cos)], 1).float()
