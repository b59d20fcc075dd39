"""How far apart are two sets of features, without a guess at their distribution?"""

from typing import ClassVar, Literal

from torch import Tensor

from trainer.evaluation.metric.base import Metric, Need, Prepared, Real, Statistics


class KID(Metric):
    """Unbiased squared MMD with k(a, b) = (a.b/D + 1)^3 (Binkowski et al. 2018), without subsets; not times 1000."""

    title: ClassVar[str] = "KID"
    lower_is_better: ClassVar[bool] = True
    ratio: ClassVar[bool] = False
    needs: ClassVar[Need] = "features"

    kind: Literal["kid"] = "kid"

    def prepare(self, real: Statistics) -> Prepared:
        """Their mean kernel among themselves."""
        return {"within": mean_kernel_within(real.every())}

    def measure(self, generated: Statistics, real: Real) -> float:
        """Within the generated, plus within the real, minus twice across."""
        return kernel_distance(generated.every(), real.every(), real.prepared["within"])


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y/D + 1)^3 of features [m, D] and [n, D]: [m, n]."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def mean_kernel_within(x: Tensor) -> Tensor:
    """Mean kernel of features [m, D] over pairs of different rows []."""
    kernel, m = cubic_kernel(x, x), len(x)
    return (kernel.sum() - kernel.trace()) / (m * (m - 1))


def kernel_distance(x: Tensor, y: Tensor, within: Tensor | None = None) -> float:
    """Unbiased squared MMD of features [m, D] and [n, D]; `within` is `mean_kernel_within(y)` if it is known."""
    known = mean_kernel_within(y) if within is None else within
    return float(mean_kernel_within(x) + known - 2.0 * cubic_kernel(x, y).mean())


KernelMetrics = KID
"""The members of this file: a new metric of kernels is one class above and one name here."""
