"""How is an image seen enlarged, turned or shifted? Warps of the training images that do not leak into samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.data import Codec, Source
from trainer.data.base import DataSpec
from trainer.errors import UserError
from trainer.inputs.base import Batch, Conditions, NetworkInput
from trainer.lazily import torch
from trainer.randomness import Stream

if TYPE_CHECKING:
    from torch import Tensor


ENTRIES = 9
STRETCH = 0.2
"""log2 of a scale or an anisotropy of one standard deviation."""
SHIFT = 0.125
"""Sides by which one standard deviation shifts."""


class Augmented(NetworkInput):
    """Warps training images at random and tells the network how; samples are told "not" (Karras et al. 2022, F.2).

    Mirrored in half of them; each with `probability`: upside down (in half of those), scaled, turned, stretched along
    a random direction, shifted. Bicubic, with reflected borders, as in k-diffusion; values may leave [-1, 1] a little.
    """

    kind: Literal["augmented"] = "augmented"
    probability: Annotated[float, Field(ge=1e-6, le=1.0)] = 0.12
    """Of each kind of warp but the mirroring; EDM used 0.12 for CIFAR-10 and 0.15 for FFHQ and AFHQ."""

    def vector(self) -> int:
        """Nine entries, all zero where nothing was done."""
        return ENTRIES

    def foresee(self, data: DataSpec) -> None:
        """The data must be images."""
        self._refuse_unless_images(data.shape)

    def check(self, source: Source) -> None:
        """The same of what was read."""
        self._refuse_unless_images(source.codec.shape)

    def _refuse_unless_images(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise UserError(
                f"inputs: augmented warps images, and the data has shape {shape}: leave the input out"
            )

    def remarks(self, source: Source) -> list[str]:
        """Flips of the data come before, and nothing tells of them."""
        if not source.flip:
            return []
        return [
            "inputs: augmented mirrors by itself and tells so; the data's own flips are told to nobody and make "
            "mirrored samples: set data.flip: false, unless you want that"
        ]

    def seen(self, batch: Batch) -> Tensor:
        """The warped images."""
        return warped(batch.x0, self._done(batch))

    def trained(self, batch: Batch) -> Conditions:
        """How each was warped."""
        return {"vector": self._done(batch).told()}

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """As photographed."""
        return {"vector": torch.zeros(len(numbers), ENTRIES, device=numbers.device)}

    def known(self, source: Source, rows: Tensor, noise_seed: int) -> Conditions:
        """The same: the likelihood is that of the images as they are."""
        return {"vector": torch.zeros(len(rows), ENTRIES, device=rows.device)}

    def _done(self, batch: Batch) -> Warp:
        return Warp.drawn(batch.seed, batch.index, self.probability)


AugmentedInputs = Augmented
"""The members of this file: a new input that warps is one class above and one name here."""


@dataclass(frozen=True)
class Warp:
    """What is done to each image, float64 [B] each; zero is nothing."""

    mirror: Tensor
    upside_down: Tensor
    scale: Tensor
    """Standard normal: log2 of the factor / 0.2."""
    turn: Tensor
    """Radians."""
    direction: Tensor
    """Radians, of the stretch."""
    stretch: Tensor
    """Standard normal: log2 of the factor / 0.2 along the direction, and of its inverse across it."""
    right: Tensor
    """Standard normal: eighths of the width."""
    down: Tensor
    """Standard normal: eighths of the height."""

    @classmethod
    def drawn(cls, seed: int, index: Tensor, probability: float) -> Warp:
        """As the training of `seed` does it to its examples of global `index` [B]."""

        def stream(name: str) -> Stream:
            return Stream(seed, f"train/augmented/{name}")

        def whether(name: str) -> Tensor:
            return (stream(f"{name}?").uniform(index) < probability).double()

        def normal(name: str) -> Tensor:
            return stream(name).normal(index, (1,))[:, 0].double()

        def angle(name: str) -> Tensor:
            return math.pi * (2.0 * stream(name).uniform(index) - 1.0)

        stretched, shifted = whether("stretch"), whether("shift")
        return cls(
            mirror=stream("mirror").coin(index).double(),
            upside_down=whether("upside_down") * stream("upside_down").coin(index).double(),
            scale=whether("scale") * normal("scale"),
            turn=whether("turn") * angle("turn"),
            direction=stretched * angle("direction"),
            stretch=stretched * normal("stretch"),
            right=shifted * normal("right"),
            down=shifted * normal("down"),
        )

    def told(self) -> Tensor:
        """float32 [B, 9]: angles as points of the circle, so that equal images are told equally."""
        entries = (
            self.mirror,
            self.upside_down,
            self.scale,
            self.turn.cos() - 1.0,
            self.turn.sin(),
            self.stretch * self.direction.cos(),
            self.stretch * self.direction.sin(),
            self.right,
            self.down,
        )
        return torch.stack(entries, 1).float()

    def linear(self) -> Tensor:
        """The part [B, 2, 2] that moves (x, y) about the centre of an image, after the shift."""
        size, along = (torch.exp2(STRETCH * amount) for amount in (self.scale, self.stretch))
        flips = _diagonal((1.0 - 2.0 * self.mirror) * size, (1.0 - 2.0 * self.upside_down) * size)
        stretch = _times(_turn(self.direction), _diagonal(along, 1.0 / along))
        return _times(_times(flips, _turn(-self.turn)), _times(stretch, _turn(-self.direction)))

    def matrix(self, height: int, width: int) -> Tensor:
        """[B, 2, 3]: where a pixel (x, y) of an image of this size goes, in pixels from the first one's centre."""
        linear, centre = self.linear(), self._centre(height, width)
        moved = _apply(linear, self._shift(height, width) - centre) + centre
        return torch.cat([linear, moved[:, :, None]], 2)

    def origins(self, height: int, width: int) -> Tensor:
        """[B, H, W, 2]: the place (x, y) from which each pixel of the warped image comes."""
        device, centre = self.mirror.device, self._centre(height, width)
        rows, columns = (
            torch.arange(side, dtype=torch.float64, device=device) for side in (height, width)
        )
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1) - centre
        back = _inverse(self.linear())[:, None, None]
        return _apply(back, grid) + (centre - self._shift(height, width))[:, None, None]

    def _centre(self, height: int, width: int) -> Tensor:
        sides = (0.5 * (width - 1), 0.5 * (height - 1))
        return torch.stack([self.mirror.new_full((), side) for side in sides])

    def _shift(self, height: int, width: int) -> Tensor:
        return torch.stack([SHIFT * width * self.right, SHIFT * height * self.down], 1)


def warped(x: Tensor, warp: Warp) -> Tensor:
    """x [B, C, H, W] warped: cubic convolution (Keys 1981, a = -1/2), borders reflected without repeating them."""
    b, _, height, width = x.shape
    place = warp.origins(height, width)
    first = place.floor()
    weights = _cubic((place - first).to(x.dtype))
    columns = [_reflected(first[..., 0].long() + k, width) for k in range(-1, 3)]
    rows = [_reflected(first[..., 1].long() + k, height) for k in range(-1, 3)]
    pixels, out = x.flatten(2), torch.zeros_like(x)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            index = (row * width + column).reshape(b, 1, -1).expand_as(pixels)
            weight = weights[i][..., 1] * weights[j][..., 0]
            out += weight[:, None] * pixels.gather(2, index).reshape(x.shape)
    return out


def _cubic(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the four neighbours of a place at t in [0, 1) between the second and the third."""
    return (
        0.5 * t * (-1.0 + t * (2.0 - t)),
        1.0 + 0.5 * t * t * (3.0 * t - 5.0),
        0.5 * t * (1.0 + t * (4.0 - 3.0 * t)),
        0.5 * t * t * (t - 1.0),
    )


def _reflected(index: Tensor, side: int) -> Tensor:
    """Any integer as one of 0..side-1, mirrored at the first and the last as often as it takes."""
    if side == 1:
        return torch.zeros_like(index)
    return (side - 1) - (index.remainder(2 * (side - 1)) - (side - 1)).abs()


def _turn(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    nothing = torch.zeros_like(x)
    return torch.stack([x, nothing, nothing, y], -1).reshape(-1, 2, 2)


def _times(a: Tensor, b: Tensor) -> Tensor:
    """Product of [B, 2, 2]; written out, so that it does not depend on how many there are."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def _apply(a: Tensor, point: Tensor) -> Tensor:
    return (a * point[..., None, :]).sum(-1)


def _inverse(a: Tensor) -> Tensor:
    determinant = a[:, 0, 0] * a[:, 1, 1] - a[:, 0, 1] * a[:, 1, 0]
    adjoint = torch.stack([a[:, 1, 1], -a[:, 0, 1], -a[:, 1, 0], a[:, 0, 0]], -1)
    return (adjoint / determinant[:, None]).reshape(-1, 2, 2)
