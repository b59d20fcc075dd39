"""Which network for images? A U-Net of residual blocks that read the noise level."""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.embedding import NoiseLevelEmbedding
from trainer.models.layers import Block, Direction, Resample, Style, zero
from trainer.spec import Spec

_Blocks = Annotated[int, Field(ge=1, le=1000)]


class UNet(Spec):
    """Residual U-Net; with layout `ddpm` the network of DDPM, improved-diffusion, ADM, P2 and v-diffusion."""

    kind: Literal["unet"] = "unet"
    layout: Literal["compact", "ddpm"] = "compact"
    """`compact`: the up path reads the outputs of the blocks, one middle block. `ddpm`: it reads those of the input
    and of each halving too, with one block more per level; block, attention, block in the middle; blocks start as
    the identity."""
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 128, 128)
    """Width of each resolution level, finest first."""
    blocks: _Blocks | tuple[_Blocks, ...] = 2
    """Residual blocks per level: one number for all, or one for each."""
    attention: tuple[int, ...] = ()
    """Levels (0 is the finest) that have self-attention."""
    heads: PositiveInt | None = None
    """Attention heads; null: as many as `head_width` gives."""
    head_width: PositiveInt = 64
    """Channels per attention head."""
    groups: PositiveInt = 8
    """Groups of every GroupNorm."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout inside residual blocks."""
    scale_shift: bool = False
    """The noise level scales and shifts the second norm of a block (FiLM); false: it is added before it."""
    resample: Literal["conv", "residual"] = "conv"
    """How resolution changes: a convolution, or a residual block (BigGAN)."""
    attention_after_resample: bool = False
    """Levels of `attention` also attend after their residual block that changes resolution (v-diffusion)."""
    embedding: PositiveInt = 64
    """Sinusoids of the noise level."""
    embedding_multiplier: PositiveInt = 2
    """Width of the embedding / sinusoids; 4 in publications."""
    classes: PositiveInt | None = None
    """Labels 0..classes-1 condition the network, `classes` is "no label"; null: unconditional."""

    @model_validator(mode="after")
    def _divisible(self) -> "UNet":
        for width in self.channels:
            if width % self.groups:
                raise ValueError(
                    f"channels: {width} is not a multiple of groups: {self.groups}; change one of them"
                )
        if len(self.depths()) != len(self.channels):
            raise ValueError(
                f"blocks: {len(self.depths())} numbers for {len(self.channels)} levels of channels; "
                "give one for each, or one for all"
            )
        middle = [len(self.channels) - 1] if self.layout == "ddpm" else []
        for level in [*self.attention, *middle]:
            if not 0 <= level < len(self.channels):
                raise ValueError(
                    f"attention: level {level} does not exist; there are {len(self.channels)}, counted from 0"
                )
            width = self.channels[level]
            if self.heads is not None and width % self.heads:
                raise ValueError(
                    f"heads: {self.heads} does not divide {width} channels; use a divisor"
                )
            if self.heads is None and width % min(self.head_width, width):
                raise ValueError(
                    f"head_width: {self.head_width} does not divide {width} channels; use a divisor"
                )
        if self.attention_after_resample and self.resample == "conv":
            raise ValueError(
                "attention_after_resample: needs resample: residual; set both, or leave it out"
            )
        return self

    def build(
        self, shape: tuple[int, ...], output_channels: int | None = None, vector: int = 0
    ) -> nn.Module:
        """The module for images of shape (C, H, W), initialized from torch's current generator.

        Its output has `output_channels` in place of C; it may be told a `vector` of that many entries.
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
                f"the images are {shape[1]} x {shape[2]}: use fewer levels, or another data.size"
            )
        network = _Compact if self.layout == "compact" else _DDPM
        return network(self, shape[0], output_channels or shape[0], vector)

    def depths(self) -> tuple[int, ...]:
        """Residual blocks of each level."""
        return (
            self.blocks if isinstance(self.blocks, tuple) else (self.blocks,) * len(self.channels)
        )

    def embedded(self) -> int:
        """Width of the embedded noise level."""
        return self.embedding_multiplier * self.embedding

    def style(self) -> Style:
        """What all blocks share."""
        return Style(
            embedded=self.embedded(),
            groups=self.groups,
            dropout=self.dropout,
            scale_shift=self.scale_shift,
            heads=self.heads,
            head_width=self.head_width,
            zero_blocks=self.layout == "ddpm",
        )

    def resampling(self, level: int, inward: int, out: int, direction: Direction) -> nn.Module:
        """The module that leaves `level` for the next coarser or finer one."""
        if self.resample == "conv":
            return Resample(inward, out, direction)
        attention = self.attention_after_resample and level in self.attention
        return Block(self.style(), inward, out, attention=attention, resample=direction)


UNets = UNet
"""The members of this file: a new network of feature maps is one class above and one name here."""


class _Compact(nn.Module):
    """Down path, one middle block, and an up path that reads every down block's output again."""

    def __init__(self, spec: UNet, inward: int, out: int, vector: int) -> None:
        super().__init__()
        widths, depths, style = spec.channels, spec.depths(), spec.style()
        self.embed = NoiseLevelEmbedding(
            spec.embedding, spec.embedded(), classes=spec.classes, vector=vector
        )
        self.inward = nn.Conv2d(inward, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.ModuleList(
                Block(style, w, w, attention=i in spec.attention) for _ in range(depths[i])
            )
            for i, w in enumerate(widths)
        )
        self.shrink = nn.ModuleList(
            spec.resampling(i, a, b, "down") for i, (a, b) in enumerate(pairwise(widths))
        )
        self.middle = Block(
            style, widths[-1], widths[-1], attention=len(widths) - 1 in spec.attention
        )
        self.up = nn.ModuleList(
            nn.ModuleList(
                Block(style, 2 * w, w, attention=i in spec.attention) for _ in range(depths[i])
            )
            for i, w in enumerate(widths)
        )
        self.grow = nn.ModuleList(
            spec.resampling(i + 1, b, a, "up") for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norm = nn.GroupNorm(spec.groups, widths[0])
        self.outward = nn.Conv2d(widths[0], out, 3, padding=1)
        zero(self.outward)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        embedded = self.embed(condition, labels, vector)
        h = self.inward(x)
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            if level > 0:
                h = self.shrink[level - 1](h, embedded)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedded)
                skips.append(h)
        h = self.middle(h, embedded)
        for level in range(len(self.up) - 1, -1, -1):
            for block in self.up[level]:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], 1), embedded)
            if level > 0:
                h = self.grow[level - 1](h, embedded)
        return self.outward(functional.silu(self.norm(h)))


class _DDPM(nn.Module):
    """Down path whose every output, also that of the input and of the halvings, is read by the up path."""

    def __init__(self, spec: UNet, inward: int, out: int, vector: int) -> None:
        super().__init__()
        style, depths = spec.style(), spec.depths()
        coarsest, width = len(depths) - 1, spec.channels[0]
        self.embed = NoiseLevelEmbedding(
            spec.embedding, spec.embedded(), classes=spec.classes, vector=vector, last=False
        )
        self.inward = nn.Conv2d(inward, width, 3, padding=1)
        self.down, kept = nn.ModuleList(), [width]
        for level, wide in enumerate(spec.channels):
            for _ in range(depths[level]):
                self.down.append(Block(style, width, wide, attention=level in spec.attention))
                width = wide
                kept.append(width)
            if level < coarsest:
                self.down.append(spec.resampling(level, width, width, "down"))
                kept.append(width)
        self.middle = nn.ModuleList(
            [Block(style, width, width, attention=True), Block(style, width, width)]
        )
        self.up = nn.ModuleList()
        self.reads: list[bool] = []
        """Whether each module of the up path reads an output of the down path."""
        for level in range(coarsest, -1, -1):
            wide, attends = spec.channels[level], level in spec.attention
            for _ in range(depths[level] + 1):
                self.up.append(Block(style, width + kept.pop(), wide, attention=attends))
                width = wide
                self.reads.append(True)
            if level > 0:
                self.up.append(spec.resampling(level, width, width, "up"))
                self.reads.append(False)
        self.norm = nn.GroupNorm(spec.groups, width)
        self.outward = nn.Conv2d(width, out, 3, padding=1)
        zero(self.outward)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        embedded = self.embed(condition, labels, vector)
        h = self.inward(x)
        kept = [h]
        for module in self.down:
            h = module(h, embedded)
            kept.append(h)
        for module in self.middle:
            h = module(h, embedded)
        for module, reads in zip(self.up, self.reads, strict=True):
            h = module(torch.cat([h, kept.pop()], 1) if reads else h, embedded)
        return self.outward(functional.silu(self.norm(h)))
