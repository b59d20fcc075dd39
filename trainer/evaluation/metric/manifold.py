"""Do generated images lie where real ones lie, and the other way round? Balls around features estimate a support."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.evaluation.metric.base import BLOCK, Metric, Need, Prepared, Real, Statistics
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


NEIGHBOURS = 3
"""k of precision and recall, as published."""
NEIGHBOURS_OF_DENSITY = 5
"""k of density and coverage, as published."""


@dataclass(frozen=True)
class Manifold:
    """Features [N, D] with the distance [N] of each to its k-th neighbour: balls whose union estimates a support."""

    features: Tensor
    radius: Tensor

    @classmethod
    def of(cls, features: Tensor, k: int = NEIGHBOURS) -> Manifold:
        """Balls that reach each point's k-th nearest other point; needs more than k points, else ValueError."""
        if len(features) <= k:
            raise ValueError(
                f"balls to the {k} nearest need more than {k} images, not {len(features)}"
            )
        radii = []
        for rows in torch.split(features, BLOCK):
            x = rows.double()
            nearest = x.new_empty(len(x), 0)  # itself is among them, at distance zero
            for others in torch.split(features, BLOCK):
                both = torch.cat([nearest, torch.cdist(x, others.double())], 1)
                nearest = both.topk(min(k + 1, both.shape[1]), largest=False).values
            radii.append(nearest.amax(1))
        return cls(features, torch.cat(radii))

    def holds(self, points: Tensor) -> Tensor:
        """Whether each of the points [M, D] lies in at least one ball (bool [M])."""
        return self.balls_around(points) > 0

    def balls_around(self, points: Tensor) -> Tensor:
        """How many balls each of the points [M, D] lies in (int64 [M])."""
        counts = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        for rows, _, inside in self._inside(points):
            counts[rows] += inside.sum(1)
        return counts

    def reached(self, points: Tensor) -> Tensor:
        """Whether each ball has one of the points [M, D] in it (bool [N])."""
        found = torch.zeros(len(self.features), dtype=torch.bool, device=points.device)
        for _, balls, inside in self._inside(points):
            found[balls] |= inside.any(0)
        return found

    def _inside(self, points: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows of points, balls, and which of these points lie in which of these balls (bool [rows, balls])."""
        for first in range(0, len(points), BLOCK):
            rows = slice(first, first + BLOCK)
            x = points[rows].double()
            for start in range(0, len(self.features), BLOCK):
                balls = slice(start, start + BLOCK)
                distance = torch.cdist(x, self.features[balls].double())
                yield rows, balls, distance <= self.radius[balls]


class _OfManifolds(Metric):
    """What these metrics share: they know the real manifold."""

    lower_is_better: ClassVar[bool] = False
    ratio: ClassVar[bool] = False
    needs: ClassVar[Need] = "features"
    looks_at_pairs: ClassVar[bool] = True
    neighbours: ClassVar[int] = NEIGHBOURS
    fewest_images: ClassVar[int] = NEIGHBOURS + 1
    fewest_real: ClassVar[int] = NEIGHBOURS + 1
    keeps: ClassVar[str | None] = "manifold"

    def prepare(self, real: Statistics) -> Prepared:
        """The radii of their balls."""
        return {"radius": Manifold.of(real.kept(), self.neighbours).radius}

    def manifold(self, real: Real) -> Manifold:
        """Of the real images."""
        return Manifold(real.kept(), real.prepared["radius"])


class Precision(_OfManifolds):
    """Share of the generated features within the real manifold (Kynkaanniemi et al. 2019, eq. 2)."""

    title: ClassVar[str] = "precision"
    kind: Literal["precision"] = "precision"

    def measure(self, generated: Statistics, real: Real) -> float:
        """From 0 to 1."""
        return precision(generated.kept(), self.manifold(real))


class Recall(_OfManifolds):
    """Share of the real features within the manifold of the generated ones (the same, turned around)."""

    title: ClassVar[str] = "recall"
    kind: Literal["recall"] = "recall"

    def measure(self, generated: Statistics, real: Real) -> float:
        """From 0 to 1."""
        return recall(generated.kept(), self.manifold(real))


class _OfNeighbours(_OfManifolds):
    """Density and coverage: smaller outliers through more neighbours, and no manifold of the generated images."""

    neighbours: ClassVar[int] = NEIGHBOURS_OF_DENSITY
    fewest_images: ClassVar[int] = 2
    fewest_real: ClassVar[int] = NEIGHBOURS_OF_DENSITY + 1
    keeps: ClassVar[str | None] = f"manifold-{NEIGHBOURS_OF_DENSITY}"


class Density(_OfNeighbours):
    """Real balls around a generated feature, over k, on average (Naeem et al. 2020, eq. 4); it may exceed 1."""

    title: ClassVar[str] = "density"
    kind: Literal["density"] = "density"

    def measure(self, generated: Statistics, real: Real) -> float:
        """From 0 on; its expectation is 1 where both sets have one distribution."""
        return density(generated.kept(), self.manifold(real))


class Coverage(_OfNeighbours):
    """Share of the real balls with a generated feature in them (Naeem et al. 2020, eq. 5)."""

    title: ClassVar[str] = "coverage"
    kind: Literal["coverage"] = "coverage"

    def measure(self, generated: Statistics, real: Real) -> float:
        """From 0 to 1."""
        return coverage(generated.kept(), self.manifold(real))


def precision(features: Tensor, real: Manifold) -> float:
    """Share of the generated features [M, D] within the real manifold."""
    return float(real.holds(features).double().mean())


def recall(features: Tensor, real: Manifold, k: int = NEIGHBOURS) -> float:
    """Share of the real features within the manifold of the generated features [M, D]."""
    return float(Manifold.of(features, k).holds(real.features).double().mean())


def density(features: Tensor, real: Manifold, k: int = NEIGHBOURS_OF_DENSITY) -> float:
    """Mean number of real balls that a generated feature [M, D] lies in, over k. A ball holds its surface."""
    return float(real.balls_around(features).double().mean()) / k


def coverage(features: Tensor, real: Manifold) -> float:
    """Share of the real balls with at least one of the generated features [M, D]."""
    return float(real.reached(features).double().mean())


ManifoldMetrics = Precision | Recall | Density | Coverage
"""The members of this file: a new metric of manifolds is one class above and one name here."""
