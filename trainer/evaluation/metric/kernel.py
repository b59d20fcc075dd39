"""How far apart are two sets of features, without a guess at their distribution?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.evaluation.metric.base import BLOCK, Metric, Need, Prepared, Real, Statistics
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class KID(Metric):
    """Unbiased squared MMD with k(a, b) = (a.b/D + 1)^3 (Binkowski et al. 2018), without subsets; not times 1000."""

    title: ClassVar[str] = "KID"
    lower_is_better: ClassVar[bool] = True
    ratio: ClassVar[bool] = False
    needs: ClassVar[Need] = "features"
    looks_at_pairs: ClassVar[bool] = True

    kind: Literal["kid"] = "kid"

    def prepare(self, real: Statistics) -> Prepared:
        """Their mean kernel among themselves."""
        return {"within": mean_kernel_within(real.kept())}

    def measure(self, generated: Statistics, real: Real) -> float:
        """Within the generated, plus within the real, minus twice across."""
        return kernel_distance(generated.kept(), real.kept(), real.prepared["within"])


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y/D + 1)^3 of features [m, D] and [n, D]: [m, n]."""
    return (x @ y.T).div_(x.shape[1]).add_(1.0).pow_(3)


def mean_kernel_within(x: Tensor) -> Tensor:
    """Mean kernel of features [m, D] over pairs of different rows [], float64; a block of pairs at a time."""
    parts, total = torch.split(x, BLOCK), x.new_zeros((), dtype=torch.float64)
    for i, part in enumerate(parts):
        rows = part.double()
        own = cubic_kernel(rows, rows)
        total += own.sum() - own.trace()
        for other in parts[i + 1 :]:
            total += 2.0 * cubic_kernel(rows, other.double()).sum()
    return total / (len(x) * (len(x) - 1))


def mean_kernel_across(x: Tensor, y: Tensor) -> Tensor:
    """Mean kernel of features [m, D] with features [n, D] [], float64; a block of pairs at a time."""
    total = x.new_zeros((), dtype=torch.float64)
    for part in torch.split(x, BLOCK):
        rows = part.double()
        for other in torch.split(y, BLOCK):
            total += cubic_kernel(rows, other.double()).sum()
    return total / (len(x) * len(y))


def kernel_distance(x: Tensor, y: Tensor, within: Tensor | None = None) -> float:
    """Unbiased squared MMD of features [m, D] and [n, D]; `within` is `mean_kernel_within(y)` if it is known."""
    known = mean_kernel_within(y) if within is None else within
    return float(mean_kernel_within(x) + known - 2.0 * mean_kernel_across(x, y))


KernelMetrics = KID
"""The members of this file: a new metric of kernels is one class above and one name here."""
