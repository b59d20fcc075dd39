"""Which of many differences are more than luck, all of them together? One joint sign-flip test.

Under no difference the two trials of a pair may be exchanged: that turns the signs of everything that is
measured on this seed, in all cells and measures at once. The largest of all standardized sums under such
flips is what an observed one has to exceed, so their dependence is accounted for and nothing is divided by
the number of comparisons (Westfall and Young 1993). After each difference that stands out the rest is
compared among itself (Romano and Wolf 2005).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dashboards.verdict.statistics import Floats, signs

_SLACK = 1e-9


def flipped(columns: Floats, rows: Floats | None = None) -> tuple[Floats, Floats]:
    """Standardized sums of differences [n, V], as they are [V] and under signs [B, n] of their rows [B, V].

    The sum is divided by the root of the sum of squares.

    The sum of squares does not change under flips, so this orders flips as a t statistic would. NaN is no
    pair. A column of zeros stands at zero.
    """
    known = np.nan_to_num(columns)
    scale = np.sqrt((known**2).sum(axis=0))
    standard = known / np.where(scale > 0, scale, 1.0)
    rows = signs(len(known)) if rows is None else rows
    return standard.sum(axis=0), rows @ standard


def step_down(
    observed: Floats, under_flips: Floats, early: NDArray[np.bool_] | None = None
) -> Floats:
    """Adjusted p [V] of statistics of which large ones count; `early` [B, V] had exceeded before.

    A column's p is the share of flips in which any column that stands out no more than it does reaches it
    or had exceeded at an earlier look.
    """
    order = np.argsort(-observed, kind="stable")
    ranked = under_flips[:, order]
    if early is not None:
        ranked = np.where(early[:, order], np.inf, ranked)
    highest = np.maximum.accumulate(ranked[:, ::-1], axis=1)[:, ::-1]
    p = np.mean(highest >= observed[order] - _SLACK, axis=0)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p)
    return adjusted


def threshold(under_flips: Floats, spent: float, early: NDArray[np.bool_] | None = None) -> float:
    """What has to be exceeded so that a share of at most `spent` of the flips exceeds here or did before."""
    ranked = under_flips if early is None else np.where(early, np.inf, under_flips)
    if ranked.shape[1] == 0:
        return np.inf
    highest = np.sort(ranked.max(axis=1))[::-1]
    allowed = int(np.floor(spent * len(highest) + _SLACK))
    return float(highest[allowed]) + _SLACK if allowed < len(highest) else -np.inf
