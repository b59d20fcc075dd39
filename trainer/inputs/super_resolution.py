"""How does a network learn to enlarge? It sees the image at a lower resolution."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from zipfile import BadZipFile

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from trainer.data import Codec, Source
from trainer.data.base import DataSpec
from trainer.errors import DataError, UserError
from trainer.inputs.base import Batch, Conditions, NetworkInput
from trainer.lazily import torch
from trainer.randomness import Stream

if TYPE_CHECKING:
    from torch import Tensor


KEPT = 64
"""Examples that go with a checkpoint, for samples where the data set is absent."""
OCTAVES = 4

Level = Annotated[float, Field(ge=0.0, lt=1.0)]


class SuperResolution(NetworkInput):
    """The example `factor` times smaller (area), enlarged again (bilinear), as planes beside x_t.

    As improved-diffusion trains its 64 to 256 network. `noise` blurs what it sees by noise of a random level, and
    tells it the level, so that images of another network are less foreign to it (Ho et al. 2022, section 4.2).
    Sample i is made for row i of the data.
    """

    kind: Literal["super_resolution"] = "super_resolution"
    factor: Annotated[int, Field(ge=2, le=64)] = 4
    """How many times larger a side becomes."""
    noise: Level = 0.0
    """Largest level s of the noise in training, drawn evenly from 0 to it; 0: none. The small image becomes
    cos(pi s/2) image + sin(pi s/2) eps."""
    sampling_noise: Level = 0.0
    """The level in generation."""
    _source: Source | None = PrivateAttr(None)
    _given: Tensor | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _trained_for(self) -> SuperResolution:
        if self.sampling_noise > self.noise:
            raise ValueError(
                f"sampling_noise: {self.sampling_noise:g} is more than the network is trained with; raise noise "
                f"({self.noise:g}), or lower it"
            )
        return self

    def vector(self) -> int:
        """Waves of the noise's level, if there is noise."""
        return 2 * OCTAVES if self.noise else 0

    def planes(self, shape: tuple[int, ...]) -> int:
        """As many as the image has channels."""
        return shape[0]

    def foresee(self, data: DataSpec) -> None:
        """Images whose sides can be divided."""
        self._refuse_unless_divisible(data.shape)

    def check(self, source: Source) -> None:
        """The same of what was read."""
        self._refuse_unless_divisible(source.codec.shape)

    def _refuse_unless_divisible(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise UserError(
                f"inputs: super_resolution enlarges images, and the data has shape {shape}: leave the input out"
            )
        if shape[1] % self.factor or shape[2] % self.factor:
            raise UserError(
                f"inputs: super_resolution.factor: {self.factor} does not divide images of {shape[1]} x {shape[2]}; "
                "use a divisor of both sides"
            )

    def examples_kept(self) -> int:
        """The first ones."""
        return KEPT

    def live(self, source: Source) -> SuperResolution:
        """The same, whose samples are made for the rows of `source`."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def of_file(self, path: Path, codec: Codec) -> SuperResolution:
        """The same, whose samples are made for the small images of a file (`images_of_file`): sample i for image i, in
        a circle. Raises DataError.
        """
        return self.of_images(images_of_file(path, self.small(codec.shape)))

    def of_images(self, small: Tensor) -> SuperResolution:
        """The same, whose samples are made for small images [N, C, h, w] in [-1, 1], in a circle."""
        copy = self.model_copy()
        copy._given = small
        return copy

    def small(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[C, h, w] of what is enlarged to `shape`."""
        channels, height, width = shape
        return channels, height // self.factor, width // self.factor

    def trained(self, batch: Batch) -> Conditions:
        """The examples as they are seen, made small; with noise of a level that each draws."""
        purpose = "train/super_resolution"
        level = self.noise * Stream(batch.seed, f"{purpose}/level").uniform(batch.index)
        eps = Stream(batch.seed, f"{purpose}/eps")
        return self._told(smaller(batch.x0, self.factor), level, eps, batch.index)

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """Row i made small, for sample i; with noise of the stated level. Raises DataError without the data."""
        level = torch.full((len(numbers),), self.sampling_noise, device=numbers.device).double()
        eps = Stream(noise_seed, "generate/super_resolution/eps")
        return self._told(self._small(codec, numbers), level, eps, numbers)

    def known(self, source: Source, rows: Tensor, noise_seed: int) -> Conditions:
        """The rows themselves made small, with noise of generation's level: a function of the row."""
        level = torch.full((len(rows),), self.sampling_noise, device=rows.device).double()
        small = smaller(source.codec.scale(source.read(rows)), self.factor)
        return self._told(small, level, Stream(noise_seed, "likelihood/super_resolution/eps"), rows)

    def _small(self, codec: Codec, numbers: Tensor) -> Tensor:
        if self._given is not None:
            return self._given.to(numbers.device)[numbers % len(self._given)]
        if self._source is None:
            raise DataError(
                "inputs: super_resolution makes samples for small images, and there is neither the data set nor a "
                "file of such: load one of them"
            )
        rows = numbers % len(self._source)
        return smaller(codec.scale(self._source.read(rows)), self.factor)

    def _told(self, small: Tensor, level: Tensor, eps: Stream, index: Tensor) -> Conditions:
        """Planes of the small images [B, C, h, w], and the level of their noise [B]."""
        if not self.noise:
            return {"planes": larger(small, self.factor)}
        angle = 0.5 * math.pi * level[:, None, None, None]
        noise = eps.normal(index, tuple(small.shape[1:]))
        noisy = angle.cos() * small + angle.sin() * noise
        return {"planes": larger(noisy.to(small.dtype), self.factor), "vector": waves(level)}


ImageInputs = SuperResolution
"""The members of this file: a new input of planes is one class above and one name here."""


def smaller(x: Tensor, factor: int) -> Tensor:
    """[B, C, H, W] -> [B, C, H/factor, W/factor]: means of areas."""
    return torch.nn.functional.avg_pool2d(x, factor)


def larger(x: Tensor, factor: int) -> Tensor:
    """[B, C, h, w] -> [B, C, h factor, w factor], bilinear."""
    return torch.nn.functional.interpolate(
        x, scale_factor=float(factor), mode="bilinear", align_corners=False
    )


def waves(level: Tensor) -> Tensor:
    """float32 [B, 8] of levels [B] in [0, 1): cos - 1 and sin of pi, 2 pi, 4 pi, 8 pi times it; zero without noise."""
    octaves = torch.arange(OCTAVES, device=level.device, dtype=torch.float64)
    phase = math.pi * torch.exp2(octaves) * level.double()[:, None]
    return torch.cat([phase.cos() - 1.0, phase.sin()], 1).float()


def images_of_file(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Small images [N, C, h, w] in [-1, 1] of a file; DataError where it holds none of this shape [C, h, w].

    A .npy, or a .npz with `arr_0`, of uint8 [N, h, w, C], as improved-diffusion writes samples.
    """
    channels, *sides = shape
    wanted = (*sides, channels)
    images = _array(path)
    if images.dtype != np.uint8 or images.shape[1:] != wanted or not len(images):
        raise DataError(
            f"{path}: holds {images.dtype} of shape {list(images.shape)}: the network enlarges uint8 images "
            f"[N, {', '.join(map(str, wanted))}]"
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _array(path: Path) -> np.ndarray:
    """The array of a .npy, or `arr_0` of a .npz; DataError if there is none."""
    try:
        held = np.load(path, allow_pickle=False)
        return held if isinstance(held, np.ndarray) else held["arr_0"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: holds no array arr_0 ({error}): name a .npy, or a .npz") from None
