"""Which distances between generated and real features are there?

Float64 throughout. Moments are streamed and summed over workers; the reference's root is computed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MetricName = Literal["fid", "kid", "precision", "recall"]
"""Names that `evaluation.metrics` accepts; each becomes `eval/<name>` and `rung/<name>`."""

LOWER_IS_BETTER: dict[str, bool] = {"fid": True, "kid": True, "precision": False, "recall": False}

NEIGHBOURS = 3
"""k of precision and recall, as published."""
BLOCK = 2**22
"""Distances held at once; bounds the memory of precision and recall."""


@dataclass
class Moments:
    """Count, sum and sum of outer products of features, float64; addable across batches and workers."""

    count: Tensor
    total: Tensor
    outer: Tensor

    @classmethod
    def empty(cls, width: int, device: torch.device | str = "cpu") -> "Moments":
        """No features yet, `width` dimensions."""
        zero = torch.zeros(width, dtype=torch.float64, device=device)
        return cls(zero.new_zeros(()), zero, zero.new_zeros(width, width))

    def add(self, features: Tensor) -> None:
        """Add features [B, D]."""
        features = features.double()
        self.count += len(features)
        self.total += features.sum(0)
        self.outer += features.T @ features

    def mean(self) -> Tensor:
        """[D]."""
        return self.total / self.count

    def covariance(self) -> Tensor:
        """Unbiased [D, D]; needs at least two features."""
        mean = self.mean()
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1.0)


@dataclass(frozen=True)
class Reference:
    """Statistics of the real data: mean, a root R with R R^T = covariance, trace, features."""

    mean: Tensor
    root: Tensor
    trace: float
    features: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Reference":
        """From real features [N, D]."""
        features = features.double()
        mean = features.mean(0)
        centred = (features - mean) / (len(features) - 1) ** 0.5
        covariance = centred.T @ centred
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp_min(0.0).sqrt()
        return cls(mean, root, float(covariance.trace()), features)


def frechet_distance(moments: Moments, reference: Reference) -> float:
    """|mu - mu_r|^2 + tr(S + S_r - 2 (S_r^1/2 S S_r^1/2)^1/2), the FID of Heusel et al. 2017 (eq. 6).

    The last trace is the sum of the square roots of eig(R^T S R), symmetric and float64.
    """
    covariance = moments.covariance()
    offset = moments.mean() - reference.mean
    inner = torch.linalg.eigvalsh(reference.root.T @ covariance @ reference.root)
    cross = inner.clamp_min(0.0).sqrt().sum()
    return float(offset @ offset + covariance.trace() + reference.trace - 2.0 * cross)


def kernel_distance(features: Tensor, reference: Tensor) -> float:
    """Unbiased squared MMD with k(a, b) = (a.b/D + 1)^3, KID (Binkowski et al. 2018) without subsets.

    features [m, D], reference [n, D]; not multiplied by 1000.
    """
    x, y = features.double(), reference.double()
    width, m, n = x.shape[1], len(x), len(y)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / width + 1.0) ** 3

    xx, yy = kernel(x, x), kernel(y, y)
    within = (xx.sum() - xx.trace()) / (m * (m - 1)) + (yy.sum() - yy.trace()) / (n * (n - 1))
    return float(within - 2.0 * kernel(x, y).mean())


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


def precision(features: Tensor, real: Manifold) -> float:
    """Share of the generated features [M, D] within the real manifold (Kynkaanniemi et al. 2019, eq. 2)."""
    return float(real.holds(features).double().mean())


def recall(features: Tensor, real: Manifold, k: int = NEIGHBOURS) -> float:
    """Share of the real features within the manifold of the generated features [M, D] (the same, turned around)."""
    return float(Manifold.of(features, k).holds(real.features).double().mean())


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances [m, N] of the rows of x to all of y, some rows at a time."""
    for rows in torch.split(x, max(1, BLOCK // len(y))):
        yield torch.cdist(rows, y)
