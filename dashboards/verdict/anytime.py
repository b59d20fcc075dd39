"""How strong is the evidence, if nobody planned when to look? A product of bets that may be read at any time.

Against "the differences are symmetric about zero" a pair's difference d pays 2 / (1 + exp(-2 c d / s)), s
the root mean square of all up to it: on average 1, whatever its size (Vovk and Wang, arXiv 2208.08925). The
product over pairs, mixed over c and both directions, exceeds 1/a at any time with probability a at most.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dashboards.verdict.statistics import ALPHA, Floats, Interval, student_interval

_STAKES = (0.3, 0.6, 1.2, 2.4)
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


def closed(values: Floats) -> Floats:
    """E-values [V] that hold for all at once: the least mean with any of the others (Vovk and Wang 2021)."""
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    sizes = np.arange(1, len(values) + 1)
    return np.array([np.min((value + sums[:-1]) / sizes) for value in values])


def anytime_interval(values: Floats) -> Interval:
    """Means against which the evidence has not reached 20: covers at 95 % at all times together."""
    data = np.asarray(values, dtype=np.float64)

    def is_in(mean: float) -> bool:
        return float(evidence((data - mean)[:, None]).mean()) < 1 / ALPHA

    if data.size < 2:
        return Interval(None, None, 1 - ALPHA, "none", data.size)
    middle, reach = float(data.mean()), float(np.ptp(data)) or 1e-12 + abs(float(data.mean()))
    ends = [_end(is_in, middle, side * reach) for side in (-1.0, 1.0)]
    if ends[0] is None or ends[1] is None:
        return student_interval(data)
    return Interval(ends[0], ends[1], 1 - ALPHA, "anytime", data.size)


def _end(is_in: Callable[[float], bool], inside: float, step: float) -> float | None:
    """Where means stop to be in, from one that is; None if they do not."""
    outside = inside + step
    for _ in range(8):
        if not is_in(outside):
            break
        inside, outside, step = outside, outside + 2 * step, 2 * step
    else:
        return None
    for _ in range(40):
        between = (inside + outside) / 2
        inside, outside = (between, outside) if is_in(between) else (inside, between)
    return outside
