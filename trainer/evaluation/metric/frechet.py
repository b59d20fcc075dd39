"""How far apart are two sets of features, each taken for a normal distribution?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from trainer.evaluation.metric.base import (
    BLOCK,
    Metric,
    Moments,
    Need,
    Prepared,
    Real,
    Statistics,
)
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


_BAND = 256
"""Rows of a symmetric product that are made at once."""


class FID(Metric):
    """|mu - mu_r|^2 + tr(S + S_r - 2 (S_r^1/2 S S_r^1/2)^1/2), the Frechet distance of Heusel et al. 2017 (eq. 6)."""

    title: ClassVar[str] = "FID"
    lower_is_better: ClassVar[bool] = True
    needs: ClassVar[Need] = "moments"

    kind: Literal["fid"] = "fid"

    def prepare(self, real: Statistics) -> Prepared:
        """Mean, a root R with R R^T = covariance, and the covariance's trace."""
        return Reference.of_moments(real.moments)._asdict()

    def measure(self, generated: Statistics, real: Real) -> float:
        """From moments, or from the features where they are fewer than their dimensions."""
        return frechet_distance(generated.moments, Reference(**real.prepared), generated.features)


class FIDInfinity(Metric):
    """FID at infinitely many generated images: the intercept of a line in 1/N (Chong & Forsyth 2020, section 4).

    The subsets are the first N images, evenly spaced from a tenth of them to all (the paper: 5,000 to 50,000), each
    within the next, so that the number is the same whenever the images are. The bias in the real images stays.
    """

    title: ClassVar[str] = "FID-infinity"
    lower_is_better: ClassVar[bool] = True
    ratio: ClassVar[bool] = False
    needs: ClassVar[Need] = "features"
    fewest_images: ClassVar[int] = 40

    kind: Literal["fid_infinity"] = "fid_infinity"
    points: Annotated[int, Field(ge=2, le=1000)] = 15
    """Subsets that are measured, as published; each takes as long as an FID."""

    def prepare(self, real: Statistics) -> Prepared:
        """As FID."""
        return Reference.of_moments(real.moments)._asdict()

    def measure(self, generated: Statistics, real: Real) -> float:
        """May be slightly negative, as every unbiased estimate near zero."""
        rows, reference = generated.kept(), Reference(**real.prepared)
        sizes = self.sizes(len(rows))
        distances, first = [], 0
        moments = Moments.empty(rows.shape[1], rows.device)
        for size in sizes:
            for part in torch.split(rows[first:size], BLOCK):
                moments.add(part)
            distances.append(frechet_distance(moments, reference, rows[:size]))
            first = size
        return extrapolated(sizes, distances)

    def sizes(self, images: int) -> list[int]:
        """Images of each subset, rising; the last is all."""
        return sorted({round(n) for n in np.linspace(images / 10, images, self.points)})


def extrapolated(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Where the least-squares line of the values in 1/size meets 1/size = 0."""
    inverse = 1.0 / np.asarray(sizes, float)
    _, intercept = np.polyfit(inverse, np.asarray(values), 1)
    return float(intercept)


class Reference(NamedTuple):
    """The real images as a normal distribution: mean [D], root R [D, K] of the covariance R R^T, its trace []."""

    mean: Tensor
    root: Tensor
    trace: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Reference:
        """Of features [N, D]."""
        moments = Moments.empty(features.shape[1], features.device)
        moments.add(features)
        return cls.of_moments(moments)

    @classmethod
    def of_moments(cls, moments: Moments) -> Reference:
        """The normal of these moments; N images span N - 1 dimensions, and what eigh finds beyond is rounding."""
        covariance = moments.covariance()
        values, vectors = torch.linalg.eigh(covariance)
        span = min(moments.span(), len(values))
        return cls.of_spectrum(moments.mean(), covariance, values[-span:], vectors[:, -span:])

    @classmethod
    def of_spectrum(
        cls, mean: Tensor, covariance: Tensor, values: Tensor, vectors: Tensor
    ) -> Reference:
        """Mean [D], and a covariance [D, D] whose eigenvalues [K], rising, and eigenvectors [D, K] are known."""
        return cls(mean, vectors * values.clamp_min(0.0).sqrt(), covariance.trace())


def frechet_distance(moments: Moments, real: Reference, features: Tensor | None = None) -> float:
    """The distance of the normal of `moments` to `real`; `features` [N, D] are those of which they are.

    The last trace of the formula is the sum of the singular values of X R, where X^T X is the covariance: the square
    roots of eig(R^T S R), or, of fewer images than dimensions, of eig(X R R^T X^T), which is smaller. All in float64.
    Only as many are summed as there are: one that is zero is found as rounding, of which the root is 1e8 times larger.
    """
    if features is None or len(features) >= real.root.shape[0]:
        covariance = moments.covariance()
        inner, trace = _symmetric(real.root.T @ covariance, real.root), covariance.trace()
    else:
        centred = (features.double() - moments.mean()) / (len(features) - 1.0) ** 0.5
        turned, trace = centred @ real.root, centred.square().sum()
        smaller = turned if len(turned) < turned.shape[1] else turned.T
        inner = _symmetric(smaller, smaller.T)
    offset = moments.mean() - real.mean
    present = torch.linalg.eigvalsh(inner)[-min(moments.span(), real.root.shape[1]) :]
    cross = present.clamp_min(0.0).sqrt().sum()
    return float(offset @ offset + trace + real.trace - 2.0 * cross)


def _symmetric(left: Tensor, right: Tensor) -> Tensor:
    """left @ right [K, K], which is symmetric: of wide ones the lower triangle alone, all that eigvalsh reads."""
    size = len(left)
    product = left.new_zeros(size, size)
    for begin in range(0, size, _BAND):
        end = min(begin + _BAND, size)
        product[begin:end, :end] = left[begin:end] @ right[:, :end]
    return product


MomentMetrics = FID | FIDInfinity
"""The members of this file: a new metric of moments is one class above and one name here."""
