"""How good is a candidate? Its numbers, and one score that all candidates of a search can be ordered by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dashboards.verdict.evidence import rung_twin
from trainer.record import Record

Values = Mapping[str, tuple[float, ...]]
"""Cell to the candidate's numbers, one for each seed; what is not finite is the worst."""


@dataclass(frozen=True)
class Objective:
    """What is read of a candidate's trial."""

    metric: str
    images: int | None
    """None: at the end. Otherwise its curve at the first evaluation there or beyond."""


def reached(record: Record, objective: Objective) -> float | None:
    """A trial's number; None while it is to come, inf when there will be none: it diverged or broke."""
    result = record.result()
    if result is not None and result.status == "diverged":
        return math.inf
    if objective.images is not None:
        for report in record.reports():
            if report.images >= objective.images:
                names = (rung_twin(objective.metric), objective.metric)
                return next((report.metrics[n] for n in names if n in report.metrics), math.inf)
    elif result is not None:
        return result.metrics.get(objective.metric, math.inf)
    return math.inf if record.failure() is not None else None


def scores(values: Mapping[int, Values], *, lower_is_better: bool) -> dict[int, float]:
    """By candidate: smaller is better, inf is the worst.

    The mean of its seeds in each cell; over cells the mean of their logarithms, or, where one is not positive,
    the mean of the ranks among all candidates. One cell's score is a logarithm, too, if all are positive.
    """
    from scipy.stats import rankdata

    means = {number: _means(own) for number, own in values.items()}
    sound = {n: own for n, own in means.items() if all(math.isfinite(one) for one in own)}
    sign = 1.0 if lower_is_better else -1.0
    table = np.array(list(sound.values()), dtype=np.float64)
    if not len(table):
        return dict.fromkeys(means, math.inf)
    if (table > 0).all():
        column = sign * np.log(table).mean(axis=1)
    elif table.shape[1] == 1:
        column = sign * table[:, 0]
    else:
        column = rankdata(sign * table, axis=0).mean(axis=1)
    found = dict(zip(sound, column.tolist(), strict=True))
    return {number: found.get(number, math.inf) for number in means}


def shown(own: Values) -> float:
    """A candidate's number for people: the mean, over several cells the geometric one; inf or NaN is none."""
    means = _means(own)
    if len(means) == 1:
        return means[0]
    if not all(math.isfinite(one) and one > 0 for one in means):
        return math.inf
    return math.exp(sum(math.log(one) for one in means) / len(means))


def _means(own: Values) -> list[float]:
    return [sum(numbers) / len(numbers) for numbers in own.values()]
