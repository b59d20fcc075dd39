"""Does a classifier recognize the generated images, and many different things in them?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.evaluation.metric.base import Metric, Need, Prepared, Real, Statistics
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class InceptionScore(Metric):
    """exp E KL(p(y|x) || p(y)), the mean over splits (Salimans et al. 2016); real images do not enter.

    Images stay in their order, which is already random: torch-fidelity shuffles them before it splits.
    """

    title: ClassVar[str] = "IS"
    lower_is_better: ClassVar[bool] = False
    needs: ClassVar[Need] = "probabilities"

    kind: Literal["is"] = "is"
    splits: Annotated[int, Field(ge=1, le=1000)] = 10
    """Parts of the images with a score each, as published: fewer images in each make it smaller."""

    @property
    def fewest(self) -> int:
        """One image in every split at least."""
        return max(2, self.splits)

    def prepare(self, real: Statistics) -> Prepared:
        """Nothing."""
        return {}

    def measure(self, generated: Statistics, real: Real) -> float:
        """From 1 to the number of classes."""
        return inception_score(generated.probabilities(), self.splits)


def inception_score(probabilities: Tensor, splits: int) -> float:
    """Of class probabilities float64 [N, K], N at least `splits`."""
    n = len(probabilities)
    scores = []
    for k in range(splits):
        p = probabilities[k * n // splits : (k + 1) * n // splits]
        divergence = torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))
        scores.append(divergence.sum(1).mean().exp())
    return float(torch.stack(scores).mean())


ClassMetrics = InceptionScore
"""The members of this file: a new metric of class probabilities is one class above and one name here."""
