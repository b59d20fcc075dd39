"""How do the blocks of a U-Net hang together? The two layouts: which outputs of the down path the up path reads."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.embedding import NoiseLevelEmbedding
from trainer.models.layers import Block, Direction, PlainResample, Resample, Style, silu, zero


@dataclass(frozen=True)
class Plan:
    """What a layout is built from: levels, finest first, and the style of their blocks."""

    style: Style
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    """Residual blocks of each level."""
    attention: tuple[int, ...]
    """Levels with self-attention."""
    resample: Literal["conv", "residual", "plain"]
    attention_after_resample: bool
    skipped: int
    """Finest levels that are not there (yet): no module of theirs is built, and those of others keep their names."""
    patch: int
    """Side of the square of pixels that stands in the channels of one place."""
    embedding: int
    """Sinusoids of the noise level."""
    mapping: int
    fourier: float | None
    classes: int | None

    def levels(self) -> range:
        """Those that are run, finest first."""
        return range(self.skipped, len(self.widths))

    def embed(self, vector: int, *, last: bool) -> NoiseLevelEmbedding:
        """The module that reads the noise level and what else the network is told."""
        return NoiseLevelEmbedding(
            self.embedding,
            self.style.embedded,
            classes=self.classes,
            vector=vector,
            last=last,
            mapping=self.mapping,
            fourier=self.fourier,
        )

    def inward(self, channels: int, width: int) -> nn.Conv2d:
        """From patches of the image to `width`."""
        return nn.Conv2d(channels * self.patch**2, width, 3, padding=1)

    def outward(self, width: int, channels: int) -> nn.Conv2d:
        """Back to patches; starts at zero."""
        layer = nn.Conv2d(width, channels * self.patch**2, 3, padding=1)
        zero(layer)
        return layer

    def block(self, level: int, inward: int, *, up: bool = False) -> Block:
        """A residual block of `level`."""
        attends = level in self.attention
        return Block(self.style, inward, self.widths[level], attention=attends, up=up)

    def resampling(self, level: int, inward: int, out: int, direction: Direction) -> nn.Module:
        """The module that leaves `level` for the next coarser or finer one."""
        if self.resample == "plain":
            return PlainResample(direction)
        if self.resample == "conv":
            return Resample(inward, out, direction)
        attends = self.attention_after_resample and level in self.attention
        up = direction == "up"
        return Block(self.style, inward, out, attention=attends, resample=direction, up=up)


class FeatureMaps(nn.Module):
    """What the layouts share: an image is told apart into patches, walked through, and put together again."""

    embed: NoiseLevelEmbedding

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.patch, self.skipped = plan.patch, plan.skipped

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """x [B, C, H, W] and the noise level [B] -> [B, C', H, W]."""
        embedded = self.embed(condition, labels, vector)
        if self.patch == 1:
            return self._walk(x, embedded)
        y = self._walk(functional.pixel_unshuffle(x, self.patch), embedded)
        return functional.pixel_shuffle(y, self.patch)

    def _walk(self, x: Tensor, embedded: Tensor) -> Tensor:
        raise NotImplementedError


class Compact(FeatureMaps):
    """Down path, one middle block, and an up path that reads every down block's output again."""

    def __init__(self, plan: Plan, inward: int, out: int, vector: int) -> None:
        super().__init__(plan)
        widths, depths, first = plan.widths, plan.depths, plan.skipped
        self.embed = plan.embed(vector, last=True)
        self.inward = plan.inward(inward, widths[first])
        self.down = nn.ModuleList(
            nn.ModuleList(plan.block(i, w) for _ in range(depths[i] if i >= first else 0))
            for i, w in enumerate(widths)
        )
        self.shrink = nn.ModuleList(
            plan.resampling(i, a, b, "down") if i >= first else nn.Identity()
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.middle = plan.block(len(widths) - 1, widths[-1])
        self.up = nn.ModuleList(
            nn.ModuleList(
                plan.block(i, 2 * w, up=True) for _ in range(depths[i] if i >= first else 0)
            )
            for i, w in enumerate(widths)
        )
        self.grow = nn.ModuleList(
            plan.resampling(i + 1, b, a, "up") if i >= first else nn.Identity()
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norm = nn.GroupNorm(plan.style.groups, widths[first])
        self.outward = plan.outward(widths[first], out)

    def _walk(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.inward(x)
        skips: list[Tensor] = []
        for level in range(self.skipped, len(self.down)):
            if level > self.skipped:
                h = self.shrink[level - 1](h, embedded)
            for block in self.down[level]:  # type: ignore[attr-defined]
                h = block(h, embedded)
                skips.append(h)
        h = self.middle(h, embedded)
        for level in range(len(self.up) - 1, self.skipped - 1, -1):
            for block in self.up[level]:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], 1), embedded)
            if level > self.skipped:
                h = self.grow[level - 1](h, embedded)
        return self.outward(silu(self.norm(h)))


class DDPM(FeatureMaps):
    """Down path whose every output, also that of the input and of the halvings, is read by the up path."""

    def __init__(self, plan: Plan, inward: int, out: int, vector: int) -> None:
        super().__init__(plan)
        depths, coarsest = plan.depths, len(plan.depths) - 1
        width = plan.widths[max(0, plan.skipped - 1)]
        self.embed = plan.embed(vector, last=False)
        self.inward = plan.inward(inward, width)
        absent = sum(depths[: plan.skipped]) + plan.skipped
        self.down, kept = nn.ModuleList(nn.Identity() for _ in range(absent)), [width]
        self.absent = absent
        for level in plan.levels():
            for _ in range(depths[level]):
                self.down.append(plan.block(level, width))
                width = plan.widths[level]
                kept.append(width)
            if level < coarsest:
                self.down.append(plan.resampling(level, width, width, "down"))
                kept.append(width)
        self.middle = nn.ModuleList(
            [
                Block(plan.style, width, width, attention=True),
                Block(plan.style, width, width),
            ]
        )
        self.up = nn.ModuleList()
        self.reads: list[bool] = []
        """Whether each module of the up path reads an output of the down path."""
        for level in reversed(plan.levels()):
            for _ in range(depths[level] + 1):
                self.up.append(plan.block(level, width + kept.pop(), up=True))
                width = plan.widths[level]
                self.reads.append(True)
            if level > plan.skipped:
                self.up.append(plan.resampling(level, width, width, "up"))
                self.reads.append(False)
        self.norm = nn.GroupNorm(plan.style.groups, width)
        self.outward = plan.outward(width, out)

    def _walk(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.inward(x)
        kept = [h]
        for i in range(self.absent, len(self.down)):
            h = self.down[i](h, embedded)
            kept.append(h)
        for module in self.middle:
            h = module(h, embedded)
        for module, reads in zip(self.up, self.reads, strict=True):
            h = module(torch.cat([h, kept.pop()], 1) if reads else h, embedded)
        return self.outward(silu(self.norm(h)))
