"""Do generated images lie where real ones lie, and the other way round? Balls around features estimate a support."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainer.evaluation.metric.base import Metric, Need, Prepared, Real, Statistics

NEIGHBOURS = 3
"""k, as published."""
BLOCK = 2**22
"""Distances held at once; bounds the memory."""


@dataclass(frozen=True)
class Manifold:
    """Features [N, D] with the distance [N] of each to its k-th neighbour: balls whose union estimates a support."""

    features: Tensor
    radius: Tensor

    @classmethod
    def of(cls, features: Tensor, k: int = NEIGHBOURS) -> "Manifold":
        """Balls that reach each point's k-th nearest other point; needs more than k points, else ValueError."""
        x = features.double()
        if len(x) <= k:
            raise ValueError(f"precision and recall need more than {k} images, not {len(x)}")
        radii = [distances.kthvalue(k + 1, dim=1).values for distances in _distances(x, x)]
        return cls(x, torch.cat(radii))

    def holds(self, points: Tensor) -> Tensor:
        """Whether each of the points [M, D] lies in at least one ball (bool [M])."""
        parts = [
            (distances <= self.radius).any(1)
            for distances in _distances(points.double(), self.features)
        ]
        return torch.cat(parts)


class _OfManifolds(Metric):
    """What precision and recall share: they know the real manifold."""

    lower_is_better: ClassVar[bool] = False
    ratio: ClassVar[bool] = False
    needs: ClassVar[Need] = "features"
    fewest_images: ClassVar[int] = NEIGHBOURS + 1
    keeps: ClassVar[str | None] = "manifold"

    def prepare(self, real: Statistics) -> Prepared:
        """The radii of their balls."""
        return {"radius": Manifold.of(real.every()).radius}


class Precision(_OfManifolds):
    """Share of the generated features within the real manifold (Kynkaanniemi et al. 2019, eq. 2)."""

    title: ClassVar[str] = "precision"
    kind: Literal["precision"] = "precision"

    def measure(self, generated: Statistics, real: Real) -> float:
        """From 0 to 1."""
        return precision(generated.every(), Manifold(real.every(), real.prepared["radius"]))


class Recall(_OfManifolds):
    """Share of the real features within the manifold of the generated ones (the same, turned around)."""

    title: ClassVar[str] = "recall"
    kind: Literal["recall"] = "recall"

    def measure(self, generated: Statistics, real: Real) -> float:
        """From 0 to 1."""
        return recall(generated.every(), Manifold(real.every(), real.prepared["radius"]))


def precision(features: Tensor, real: Manifold) -> float:
    """Share of the generated features [M, D] within the real manifold."""
    return float(real.holds(features).double().mean())


def recall(features: Tensor, real: Manifold, k: int = NEIGHBOURS) -> float:
    """Share of the real features within the manifold of the generated features [M, D]."""
    return float(Manifold.of(features, k).holds(real.features).double().mean())


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances [m, N] of the rows of x to all of y, some rows at a time."""
    for rows in torch.split(x, max(1, BLOCK // len(y))):
        yield torch.cdist(rows, y)


ManifoldMetrics = Precision | Recall
"""The members of this file: a new metric of manifolds is one class above and one name here."""
