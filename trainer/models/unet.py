"""Which network for images? A U-Net of residual blocks that read the noise level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from trainer.bounds import Count, Dropout, Scale, Size
from trainer.spec import Neutral, Spec

if TYPE_CHECKING:
    from torch import nn

    from trainer.models.feature_maps import Plan
    from trainer.models.layers import Style


_Blocks = Annotated[int, Field(ge=1, le=100)]


class UNet(Spec):
    """Residual U-Net; with layout `ddpm` the network of DDPM, improved-diffusion, ADM, P2 and v-diffusion."""

    kind: Literal["unet"] = "unet"
    layout: Literal["compact", "ddpm"] = "compact"
    """`compact`: the up path reads the outputs of the blocks, one middle block. `ddpm`: it reads those of the input
    and of each halving too, with one block more per level; block, attention, block in the middle; blocks start as
    the identity."""
    channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=12)] = (64, 128, 128)
    """Width of each resolution level, finest first."""
    blocks: _Blocks | tuple[_Blocks, ...] = 2
    """Residual blocks per level: one number for all, or one for each."""
    attention: tuple[Annotated[int, Field(ge=0, le=100)], ...] = ()
    """Levels (0 is the finest) that have self-attention."""
    heads: Size | None = None
    """Attention heads; null: as many as `head_width` gives."""
    head_width: Size = 64
    """Channels per attention head."""
    heads_up: Annotated[Size | None, Neutral(None)] = None
    """Attention heads of the up path (improved-diffusion's num_heads_upsample); null: as elsewhere."""
    attention_order: Annotated[Literal["qkv_first", "heads_first"], Neutral("qkv_first")] = (
        "qkv_first"
    )
    """Order of the rows of an attention's one projection: q, k, v and then heads (guided-diffusion's new order), or
    heads and then q, k, v (the older releases'). The same functions; it matters to published weights."""
    groups: Size = 8
    """Groups of every GroupNorm."""
    dropout: Dropout = 0.0
    """Dropout inside residual blocks."""
    scale_shift: bool = False
    """The noise level scales and shifts the second norm of a block (FiLM); false: it is added before it."""
    resample: Literal["conv", "residual", "plain"] = "conv"
    """How resolution changes: a convolution, a residual block (BigGAN), or nothing learned: averages of 2 x 2, and
    repeated pixels (conv_resample False)."""
    attention_after_resample: bool = False
    """Levels of `attention` also attend after their residual block that changes resolution (v-diffusion)."""
    embedding: Annotated[int, Field(ge=2, le=65_536)] = 64
    """Sinusoids of the noise level: a cosine and a sine are the fewest that tell it."""
    embedding_multiplier: Size = 2
    """Width of the embedding / sinusoids; 4 in publications."""
    mapping: Annotated[int, Field(ge=1, le=100), Neutral(2)] = 2
    """Linear layers between the sinusoids and the embedding."""
    fourier: Annotated[Scale | None, Neutral(None)] = None
    """Standard deviation of random frequencies in place of those of DDPM (1 in k-diffusion, which goes with
    `conditioning: log_snr`); labels and vectors are then added before the `mapping`. null: DDPM's."""
    patch: Annotated[Size, Neutral(1)] = 1
    """Side of the squares of pixels that the first convolution sees as channels (Luhman & Luhman 2022)."""
    skip_stages: Annotated[int, Field(ge=0, le=100), Neutral(0)] = 0
    """Finest levels that are left out, for images that are that often halved: a network that will grow."""
    classes: Count | None = None
    """Labels 0..classes-1 condition the network, `classes` is "no label"; null: unconditional."""

    @model_validator(mode="after")
    def _divisible(self) -> UNet:
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
        if self.heads_up is not None and (
            wide := [w for w in self._attending() if w % self.heads_up]
        ):
            raise ValueError(
                f"heads_up: {self.heads_up} does not divide {wide[0]} channels; use a divisor"
            )
        if self.skip_stages >= len(self.channels):
            raise ValueError(
                f"skip_stages: {self.skip_stages} leaves none of {len(self.channels)} levels of channels; use less"
            )
        if self.resample == "plain" and self.layout == "compact":
            raise ValueError(
                "resample: plain changes no width, as layout compact needs; use layout: ddpm"
            )
        if self.attention_after_resample and self.resample != "residual":
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
        levels = len(self.channels) - self.skip_stages
        factor = self.patch * 2 ** (levels - 1)
        if shape[1] % factor or shape[2] % factor:
            patched = f" of patches of {self.patch}" if self.patch > 1 else ""
            raise ValueError(
                f"model.channels: {levels} levels{patched} need sides divisible by {factor}, "
                f"the images are {shape[1]} x {shape[2]}: use fewer levels, or another data.size"
            )
        from trainer.models.feature_maps import DDPM, Compact

        network = Compact if self.layout == "compact" else DDPM
        return network(self._plan(), shape[0], output_channels or shape[0], vector)

    def _attending(self) -> list[int]:
        """Widths of the levels of the up path that attend."""
        return [self.channels[level] for level in self.attention]

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
        from trainer.models.layers import Style

        return Style(
            embedded=self.embedded(),
            groups=self.groups,
            dropout=self.dropout,
            scale_shift=self.scale_shift,
            heads=self.heads,
            head_width=self.head_width,
            zero_blocks=self.layout == "ddpm",
            heads_up=self.heads_up,
            heads_first=self.attention_order == "heads_first",
        )

    def _plan(self) -> Plan:
        from trainer.models.feature_maps import Plan

        return Plan(
            style=self.style(),
            widths=self.channels,
            depths=self.depths(),
            attention=self.attention,
            resample=self.resample,
            attention_after_resample=self.attention_after_resample,
            skipped=self.skip_stages,
            patch=self.patch,
            embedding=self.embedding,
            mapping=self.mapping,
            fourier=self.fourier,
            classes=self.classes,
        )


UNets = UNet
"""The members of this file: a new network of feature maps is one class above and one name here."""
