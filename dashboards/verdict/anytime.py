"""How strong is the evidence, if nobody planned when to look? A product of bets that may be read at any time.

Against "the differences are symmetric about zero" a pair's difference d pays 2 / (1 + exp(-2 c d / s)), s
the root mean square of all up to it: on average 1, whatever its size (Vovk and Wang, arXiv 2208.08925). The
product over pairs, mixed over c and both directions, exceeds 1/a at any time with probability a at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dashboards.verdict.statistics import ALPHA, Floats, Interval, interval, student_interval

_STAKES = (0.3, 0.6, 1.2, 2.4)
_REFINED = 5
"""Times that an interval's end is refined, to a 32nd each."""
_ALL_IN = 0.7
"""Weight of c = infinity, which doubles at each pair of the right sign: six in a row are 64."""


def evidence(columns: Floats) -> Floats:
    """E-values [2, V] of differences [n, V], in the order of the pairs: for above and for below zero.

    NaN is no pair.
    """
    known = np.nan_to_num(columns)
    count = np.cumsum(np.isfinite(columns), axis=0)
    scale = np.sqrt(np.cumsum(known**2, axis=0) / np.maximum(count, 1))
    relative = known / np.where(scale > 0, scale, 1.0)
    sides = []
    for side in (1.0, -1.0):
        bets = [np.logaddexp(0.0, -2.0 * c * side * relative) for c in _STAKES]
        grown = np.exp([np.sum(np.log(2.0) - bet, axis=0) for bet in bets]).mean(axis=0)
        right = np.where(known * side > 0, 2.0, np.where(known == 0, 1.0, 0.0))
        sides.append(_ALL_IN * right.prod(axis=0) + (1 - _ALL_IN) * grown)
    return np.stack(sides)


def closed(values: Floats, weights: Floats) -> Floats:
    """E-values [V] that hold for all at once: the least weighted mean with any of the others.

    A weighted mean of e-values is one, so this is closed testing (Vovk and Wang 2021). The worst company
    for a value is that of the smallest others.
    """
    order = np.argsort(values)
    adjusted = np.empty(len(values))
    for place, own in enumerate(order):
        others = np.delete(order, place)
        sums = np.cumsum([weights[own] * values[own], *(weights[others] * values[others])])
        adjusted[own] = np.min(sums / np.cumsum([weights[own], *weights[others]]))
    return adjusted


def anytime_interval(values: Sequence[float] | Floats) -> Interval:
    """Means against which the evidence has not reached 20: covers at 95 % at all times together.

    Student's t where it excludes nothing, as that of five pairs.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2 or np.ptp(data) <= 1e-12 * np.abs(data).max():
        return interval(data)
    middles = np.array(
        [data.mean(), np.median(data)]
    )  # one value can drag the mean from all others
    middle = float(middles[np.argmin(_against(data, middles))])
    ends = [_end(data, middle, side * float(np.ptp(data))) for side in (-1.0, 1.0)]
    if ends[0] is None or ends[1] is None:
        return student_interval(data)
    return Interval(ends[0], ends[1], 1 - ALPHA, "anytime", data.size)


def _against(data: Floats, means: Floats) -> Floats:
    """Evidence against each mean."""
    return np.asarray(evidence(data[:, None] - means).mean(axis=0), dtype=np.float64)


def _end(data: Floats, inside: float, reach: float) -> float | None:
    """The first mean that is excluded, going from `inside` in steps of `reach`; None if there is none."""
    means = inside + reach * np.concatenate([[0.0], 2.0 ** np.arange(9) - 0.5])
    for _ in range(_REFINED):
        first = int(np.argmax(_against(data, means) >= 1 / ALPHA))
        if first == 0:
            return None
        means = np.linspace(means[first - 1], means[first], 33)
    return float(means[-1])
