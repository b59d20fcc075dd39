"""Toy data with a closed form: equal Gaussians on a circle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from trainer.bounds import Count, Scale
from trainer.data.base import DataSpec, Split
from trainer.data.source import Resident, Source
from trainer.lazily import torch
from trainer.randomness import Stream
from trainer.spec import Neutral


class Gaussians(DataSpec):
    """Points in the plane from equal isotropic Gaussians whose means lie on a circle."""

    kind: Literal["gaussians"] = "gaussians"
    modes: Count = 8
    """Number of Gaussians."""
    radius: Scale = 0.7
    """Radius of the circle of means."""
    std: Scale = 0.05
    """Standard deviation of each Gaussian."""
    examples: Count = 4096
    """Points drawn, once, from a fixed stream."""
    split: Annotated[Split, Neutral("train")] = "train"
    """`test`: as many points of the same distribution from a stream of their own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""
        return (2,)

    def load(self, root: Path, cache: Path | None = None) -> Source:
        """Points [examples, 2] with the mode as label."""
        index = torch.arange(self.examples)
        mode = index % self.modes
        angle = 2.0 * math.pi * mode / self.modes
        noise = Stream(0, "data/gaussians" + ("/test" if self.split == "test" else "")).normal(
            index, (2,)
        )
        points = self.radius * torch.stack([angle.cos(), angle.sin()], 1) + self.std * noise
        return Resident.of(points, mode, levels=None, fingerprint=self.fingerprint(root))

    def held_out(self, root: Path, cache: Path | None = None) -> DataSpec | None:
        """Other points of the same distribution."""
        return self.model_copy(update={"split": "test"}) if self.split == "train" else None

    def fingerprint(self, root: Path, cache: Path | None = None) -> str:
        """The spec says everything about the points."""
        return self.digest()


ToyData = Gaussians
"""The members of this file: a new set with a closed form is one class above and one name here."""
