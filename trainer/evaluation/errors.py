"""How far would a metric move with other images of the same network? The jackknife over groups of images."""

import math
from collections.abc import Sequence

import torch

from trainer.evaluation.metric.base import BLOCK, Metric, Moments, Real, Statistics


def standard_errors(
    metrics: list[Metric], seen: Statistics, real: dict[str, Real], groups: int
) -> dict[str, float]:
    """Standard error of each metric, by name, of the generated images alone.

    The delete-a-group jackknife (Efron & Stein 1981; Shao & Wu 1989): each of `groups` interleaved groups is left out
    once, and the spread of what the rest gives is scaled up. A bootstrap would draw images twice, which makes them
    their own neighbours (precision, KID) and takes dimensions from the covariance; here no image counts twice and
    nothing is drawn at random. It leans to the large side, by a factor of up to two for recall. The moments of the
    rest are those of all less the group's.
    """
    left_out: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    rows = seen.kept()
    for group in range(groups):
        keep = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        keep[group::groups] = False
        rest = Statistics(_less(seen.moments, rows[group::groups]), rows[keep], seen.classify)
        for metric in metrics:
            left_out[metric.name].append(metric.measure(rest, real[metric.name]))
    return {name: _scaled(values) for name, values in left_out.items()}


def of_mean(drawn: Sequence[dict[str, float]]) -> dict[str, float]:
    """`se/<name>` of the mean of independent draws, each with the standard errors of its metrics."""
    return {
        f"se/{name}": math.sqrt(sum(one[name] ** 2 for one in drawn)) / len(drawn)
        for name in drawn[0]
        if all(name in one for one in drawn)
    }


def _less(moments: Moments, rows: torch.Tensor) -> Moments:
    """Without these rows."""
    gone = Moments.empty(rows.shape[1], rows.device)
    for part in torch.split(rows, BLOCK):
        gone.add(part)
    return Moments(
        moments.count - gone.count, moments.total - gone.total, moments.outer - gone.outer
    )


def _scaled(values: list[float]) -> float:
    """sqrt((G - 1)/G sum (value - mean)^2)."""
    found, count = torch.tensor(values, dtype=torch.float64), len(values)
    return float(((count - 1) / count * (found - found.mean()).square().sum()).sqrt())
