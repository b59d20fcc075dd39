"""How far apart are two sets of features, each taken for a normal distribution?"""

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from trainer.evaluation.metric.base import Metric, Moments, Need, Prepared, Real, Statistics


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
        """From moments alone."""
        return frechet_distance(generated.moments, Reference(**real.prepared))


class Reference(NamedTuple):
    """The real images as a normal distribution: mean [D], root R [D, D] of the covariance R R^T, its trace []."""

    mean: Tensor
    root: Tensor
    trace: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Reference":
        """Of features [N, D]."""
        moments = Moments.empty(features.shape[1], features.device)
        moments.add(features)
        return cls.of_moments(moments)

    @classmethod
    def of_moments(cls, moments: Moments) -> "Reference":
        """The normal of these moments."""
        covariance = moments.covariance()
        values, vectors = torch.linalg.eigh(covariance)
        return cls(moments.mean(), vectors * values.clamp_min(0.0).sqrt(), covariance.trace())


def frechet_distance(moments: Moments, real: Reference) -> float:
    """The distance of the normal of `moments` to `real`.

    The last trace of the formula is the sum of the square roots of eig(R^T S R), symmetric and float64.
    """
    covariance = moments.covariance()
    offset = moments.mean() - real.mean
    inner = torch.linalg.eigvalsh(real.root.T @ covariance @ real.root)
    cross = inner.clamp_min(0.0).sqrt().sum()
    return float(offset @ offset + covariance.trace() + real.trace - 2.0 * cross)


MomentMetrics = FID
"""The members of this file: a new metric of moments is one class above and one name here."""
