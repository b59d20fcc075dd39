"""Of which parts is a U-Net made? Residual blocks that read the noise level, self-attention, changes of resolution."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Direction = Literal["down", "up"]


@dataclass(frozen=True)
class Style:
    """What all blocks of one network share."""

    embedded: int
    """Width of the embedded noise level."""
    groups: int
    dropout: float
    scale_shift: bool
    heads: int | None
    head_width: int
    zero_blocks: bool
    """Whether residual blocks start as the identity."""
    heads_up: int | None = None
    """Attention heads of the up path; None: as elsewhere."""
    heads_first: bool = False
    """Whether the rows of an attention's projection are ordered by head, then q, k, v."""

    def head_count(self, width: int, *, up: bool = False) -> int:
        """Attention heads at this width."""
        heads = (self.heads_up or self.heads) if up else self.heads
        return heads or max(1, width // self.head_width)


class Block(nn.Module):
    """norm, SiLU, [resample], conv, noise level, norm, SiLU, dropout, conv; plus the input; then attention.

    The noise level is added after the first convolution or, with `scale_shift`, modulates the second norm (FiLM).
    With `resample` both branches change resolution before they are convolved (BigGAN).
    """

    def __init__(
        self,
        style: Style,
        inward: int,
        out: int,
        *,
        attention: bool = False,
        resample: Direction | None = None,
        up: bool = False,
    ) -> None:
        super().__init__()
        self.scale_shift = style.scale_shift
        self.direction = resample
        self.norm1 = nn.GroupNorm(style.groups, inward)
        self.conv1 = nn.Conv2d(inward, out, 3, padding=1)
        self.embed = nn.Linear(style.embedded, 2 * out if style.scale_shift else out)
        self.norm2 = nn.GroupNorm(style.groups, out)
        self.dropout = nn.Dropout(style.dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if style.zero_blocks:
            zero(self.conv2)
        self.skip = nn.Conv2d(inward, out, 1) if inward != out else nn.Identity()
        self.attention = Attention(style, out, up=up) if attention else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """x [B, inward, H, W], embedded [B, E] -> [B, out, H', W']."""
        h = silu(self.norm1(x))
        if self.direction is not None:
            h, x = resampled(h, self.direction), resampled(x, self.direction)
        h, level = self.conv1(h), self.embed(embedded)[:, :, None, None]
        if self.scale_shift:
            scale, shift = level.chunk(2, 1)
            h = self.norm2(h) * (1.0 + scale) + shift
        else:
            h = self.norm2(plus(h, level))
        h = self.conv2(self.dropout(silu(h)))
        return self.attention(plus(h, self.skip(x)))


class Attention(nn.Module):
    """Every pixel attends to all of its image; starts as the identity."""

    def __init__(self, style: Style, width: int, *, up: bool = False) -> None:
        super().__init__()
        self.heads = style.head_count(width, up=up)
        self.heads_first = style.heads_first
        self.norm = nn.GroupNorm(style.groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        b, c, h, w = x.shape
        rows = (self.heads, 3) if self.heads_first else (3, self.heads)
        qkv = self.qkv(self.norm(x)).reshape(b, *rows, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(2 if self.heads_first else 1)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.transpose(-1, -2).reshape(b, c, h, w))


class Resample(nn.Module):
    """Strided convolution down, or nearest neighbour and convolution up."""

    def __init__(self, inward: int, out: int, direction: Direction) -> None:
        super().__init__()
        self.direction = direction
        self.conv = nn.Conv2d(inward, out, 3, stride=2 if direction == "down" else 1, padding=1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """The noise level is not read."""
        return self.conv(resampled(x, "up") if self.direction == "up" else x)


class PlainResample(nn.Module):
    """Average down, or nearest neighbour up; nothing is learned."""

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        self.direction = direction

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """The noise level is not read."""
        return resampled(x, self.direction)


def resampled(x: Tensor, direction: Direction) -> Tensor:
    """Half the resolution by averaging, or twice by repeating."""
    if direction == "down":
        return functional.avg_pool2d(x, 2)
    if torch.is_grad_enabled() or x.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")
    b, c, h, w = x.shape
    grown = x.new_empty(b, c, h, 2, w, 2)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):  # a fifth of interpolate's time
        grown[:, :, :, row, :, column] = x
    return grown.view(b, c, 2 * h, 2 * w)


def silu(x: Tensor) -> Tensor:
    """SiLU of what nobody else holds: in its place where no gradient is asked for."""
    return functional.silu(x, inplace=not torch.is_grad_enabled())


def plus(x: Tensor, y: Tensor) -> Tensor:
    """x + y, where nobody else holds x: in its place where no gradient is asked for."""
    if torch.is_grad_enabled() or x.dtype != y.dtype:
        return x + y
    return x.add_(y)


def zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Set weights and bias to zero, after they were drawn: other layers keep their initial weights."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
