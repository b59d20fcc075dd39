"""Which network for images? A U-Net of residual blocks with additive noise-level embedding."""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.embedding import NoiseLevelEmbedding
from trainer.spec import Spec


class UNet(Spec):
    """Residual U-Net in the manner of DDPM: strided down, nearest up, optional self-attention per level."""

    kind: Literal["unet"] = "unet"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 128, 128)
    """Width of each resolution level, finest first."""
    blocks: PositiveInt = 2
    """Residual blocks per level."""
    attention: tuple[int, ...] = ()
    """Levels (0 is the finest) that have self-attention."""
    head_width: PositiveInt = 64
    """Channels per attention head."""
    groups: PositiveInt = 8
    """Groups of every GroupNorm."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout inside residual blocks."""
    embedding: PositiveInt = 64
    """Sinusoids of the noise level; the embedding is twice as wide."""

    @model_validator(mode="after")
    def _divisible(self) -> "UNet":
        for width in self.channels:
            if width % self.groups:
                raise ValueError(f"channels: {width} is not a multiple of groups: {self.groups}")
        for level in self.attention:
            if not 0 <= level < len(self.channels):
                raise ValueError(
                    f"attention: level {level} does not exist; there are {len(self.channels)}"
                )
            if self.channels[level] % min(self.head_width, self.channels[level]):
                raise ValueError(
                    f"head_width: {self.head_width} does not divide {self.channels[level]} channels"
                )
        return self

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        """The module for images of shape (C, H, W), initialized from torch's current generator.

        Raises ValueError when the image cannot be halved once per level.
        """
        if len(shape) != 3:
            raise ValueError(
                f"model.kind: unet needs images, the data has shape {shape}: use kind: mlp"
            )
        factor = 2 ** (len(self.channels) - 1)
        if shape[1] % factor or shape[2] % factor:
            raise ValueError(
                f"model.channels: {len(self.channels)} levels need sides divisible by {factor}, "
                f"the images are {shape[1]} x {shape[2]}"
            )
        return _UNet(self, shape[0])


class _Block(nn.Module):
    def __init__(self, spec: UNet, inward: int, out: int, *, attention: bool) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(spec.groups, inward)
        self.conv1 = nn.Conv2d(inward, out, 3, padding=1)
        self.embed = nn.Linear(2 * spec.embedding, out)
        self.norm2 = nn.GroupNorm(spec.groups, out)
        self.dropout = nn.Dropout(spec.dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(inward, out, 1) if inward != out else nn.Identity()
        self.attention = _Attention(spec, out) if attention else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x))) + self.embed(embedded)[:, :, None, None]
        h = self.conv2(self.dropout(functional.silu(self.norm2(h))))
        return self.attention(self.skip(x) + h)


class _Attention(nn.Module):
    def __init__(self, spec: UNet, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // spec.head_width)
        self.norm = nn.GroupNorm(spec.groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        _zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.transpose(-1, -2).reshape(b, c, h, w))


class _UNet(nn.Module):
    """Down path, one middle block, and an up path that reads every down block's output again."""

    def __init__(self, spec: UNet, image_channels: int) -> None:
        super().__init__()
        widths = spec.channels
        self.embed = NoiseLevelEmbedding(spec.embedding, 2 * spec.embedding)
        self.inward = nn.Conv2d(image_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.ModuleList(
                _Block(spec, w, w, attention=i in spec.attention) for _ in range(spec.blocks)
            )
            for i, w in enumerate(widths)
        )
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.middle = _Block(
            spec, widths[-1], widths[-1], attention=len(widths) - 1 in spec.attention
        )
        self.up = nn.ModuleList(
            nn.ModuleList(
                _Block(spec, 2 * w, w, attention=i in spec.attention) for _ in range(spec.blocks)
            )
            for i, w in enumerate(widths)
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(spec.groups, widths[0])
        self.outward = nn.Conv2d(widths[0], image_channels, 3, padding=1)
        _zero(self.outward)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        embedded = self.embed(condition)
        h = self.inward(x)
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            if level > 0:
                h = self.shrink[level - 1](h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedded)
                skips.append(h)
        h = self.middle(h, embedded)
        for level in range(len(self.up) - 1, -1, -1):
            for block in self.up[level]:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], 1), embedded)
            if level > 0:
                h = self.grow[level - 1](
                    functional.interpolate(h, scale_factor=2.0, mode="nearest")
                )
        return self.outward(functional.silu(self.norm(h)))


def _zero(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
