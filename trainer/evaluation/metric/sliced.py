"""How far apart are two sets of features along lines? One-dimensional optimal transport, by sorting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.evaluation.metric.base import BLOCK, Metric, Need, Prepared, Real, Statistics
from trainer.lazily import torch
from trainer.randomness import Stream

if TYPE_CHECKING:
    from torch import Tensor


_AT_ONCE = 64
"""Directions whose projections are held together."""


class MIND(Metric):
    """3 D times the mean of W2^2 along random directions (Monge Inception Distance, Berthet et al., arXiv 2605.06797).

    The directions are the same in every measurement. Sets of unequal size are compared by the exact transport of
    all their images; the paper has equal sizes.
    """

    title: ClassVar[str] = "MIND"
    lower_is_better: ClassVar[bool] = True
    needs: ClassVar[Need] = "features"

    kind: Literal["mind"] = "mind"
    directions: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Lines on which features are compared, as published."""

    def prepare(self, real: Statistics) -> Prepared:
        """Nothing: their features are kept anyhow."""
        return {}

    def measure(self, generated: Statistics, real: Real) -> float:
        """By sorting both sets along every line."""
        x, y = generated.kept(), real.kept()
        lines = unit_vectors(self.directions, x.shape[1]).to(x.device)
        return 3.0 * x.shape[1] * sliced_distance(x, y, lines)


def unit_vectors(count: int, width: int) -> Tensor:
    """Directions float64 [count, width], uniform on the sphere, always the same."""
    normal = Stream(0, "metric/directions").normal(torch.arange(count), (width,)).double()
    return normal / normal.norm(dim=1, keepdim=True)


def sliced_distance(x: Tensor, y: Tensor, lines: Tensor) -> float:
    """Mean of the squared Wasserstein-2 distance of x [n, D] and y [m, D] along lines [K, D]."""
    total = 0.0
    for some in torch.split(lines, _AT_ONCE):
        total += float(transport_cost(_sorted_along(x, some), _sorted_along(y, some)).sum())
    return total / len(lines)


def transport_cost(x: Tensor, y: Tensor) -> Tensor:
    """W2^2 [K] of one-dimensional sets in the columns of x [n, K] and y [m, K], both sorted.

    The integral of (F^-1 - G^-1)^2 over (0, 1), a sum between the places where one of the two jumps.
    """
    n, m = len(x), len(y)
    if n == m:
        return (x - y).square().mean(0)
    jumps = torch.cat([torch.arange(n, device=x.device) * m, torch.arange(m, device=x.device) * n])
    begin = torch.unique(jumps)  # in units of 1/(n m), sorted
    length = torch.diff(begin, append=begin.new_tensor([n * m])).double() / (n * m)
    return length @ (x[begin // m] - y[begin // n]).square()


def _sorted_along(x: Tensor, lines: Tensor) -> Tensor:
    """Projections float64 [n, K] of features [n, D] on lines [K, D], each column sorted."""
    return torch.cat([rows.double() @ lines.T for rows in torch.split(x, BLOCK)]).sort(0).values


SlicedMetrics = MIND
"""The members of this file: a new metric of projections is one class above and one name here."""
