"""When may a word be said, if one looks several times? Error spent over planned looks, replayed from the data.

A group-sequential joint sign-flip test (AdaStop, arXiv 2306.10882, here with pairs): at each planned look a
flip counts as an error if it exceeds now or did at an earlier look, and what has to be exceeded is set so
that these are no more than what may be spent so far. Nothing is remembered: looks are functions of the first
n seeds, so whoever looks again, and however often in between, finds the same.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dashboards.verdict.flips import flipped, step_down, threshold
from dashboards.verdict.statistics import ALPHA, Floats, signs, smallest_p


def spending(looks: Sequence[int], alpha: float = ALPHA) -> tuple[float, ...]:
    """Error spent up to and with each look; the last has spent all of `alpha`.

    In proportion to the seeds, but the first look that can decide at all gets enough for its smallest p,
    if that is no more than two thirds of the whole: six seeds without an exception are an answer.
    """
    able = next((n for n in looks if smallest_p(n) < alpha), looks[-1])
    first = smallest_p(able) if smallest_p(able) <= alpha * 2 / 3 else 0.0
    return tuple(
        alpha if n == looks[-1] else max(alpha * n / looks[-1], first if n >= able else 0.0)
        for n in looks
    )


class Family:
    """All comparisons of a report through all its looks; those that stood out leave it."""

    def __init__(
        self,
        looks: Sequence[int],
        *,
        two_sided: bool,
        weights: Floats | float = 1.0,
        alpha: float = ALPHA,
    ) -> None:
        """`weights` [V] say how much a column counts: one of 1 is hardly disturbed by others of less.

        `alpha` is what may be spent: less than .05 where columns were chosen among more; p then counts that.
        """
        self._weights = np.asarray(weights, dtype=np.float64)
        self._spent = spending(looks, alpha)
        self._signs, self._two_sided = signs(looks[-1]), two_sided
        self._early: NDArray[np.bool_] | None = None
        self._at = 0
        self.size = 0.0
        """Share of flips in which anything would have stood out by now: no more than what may be spent."""

    def look(self, columns: Floats) -> Floats:
        """Adjusted p [V] at the next look, of differences [n, V]: below .05 means that one stands out.

        Over all columns, measures and looks so far. Columns are the same at each look; one without any
        number, or that stood out at an earlier look, is all NaN and takes no part: its p is 1.
        """
        spent = self._spent[self._at] * (1.0 if self._two_sided else 0.5)
        self._at += 1
        observed, under = flipped(columns, self._signs[:, : len(columns)])
        observed, under = self._weights * observed, self._weights * under
        if self._two_sided:
            observed, under = np.abs(observed), np.abs(under)
        active = np.asarray(np.isfinite(columns).any(axis=0), dtype=bool)
        count = columns.shape[1]
        early = np.zeros(under.shape, dtype=bool) if self._early is None else self._early
        p = np.ones(count)
        if active.any():
            p[active] = step_down(observed[active], under[:, active], early[:, active])
            p = np.minimum(1.0, p * ALPHA / spent if spent > 0 else 1.0)
            # at equality the share is still within what may be spent
            p = np.where(np.isclose(p, ALPHA, rtol=1e-9), ALPHA * (1 - 1e-9), p)
        rest = active & (p >= ALPHA)
        limit = threshold(under[:, rest], spent, early[:, rest])
        self._early = early | (under > limit)
        self.size = float(self._early[:, active].any(axis=1).mean())
        return p


@functools.lru_cache(maxsize=64)
def misses(looks: tuple[int, ...]) -> tuple[float, ...]:
    """With which probability an interval may miss at each look, so that all together miss in 5 %.

    The levels at which one sign-flip test with these looks would decide, for normal scores as differences.
    A look that cannot decide has the level of the first that can.
    """
    from scipy import special

    n = looks[-1]
    if len(looks) == 1 or smallest_p(n) >= ALPHA:
        return (ALPHA,) * len(looks)
    scores = special.ndtri((1.0 + (np.arange(n) + 0.5) / n) / 2.0)  # half-normal quantiles
    scores = np.random.default_rng(n).permutation(scores)[:, None]
    rows, early, nominal = signs(n), None, []
    for seeds, spent in zip(looks, spending(looks), strict=True):
        _, under = flipped(scores[:seeds], rows[:, :seeds])
        under = np.abs(under)
        early = np.zeros(under.shape, dtype=bool) if early is None else early
        beyond = under > threshold(under, spent, early)
        nominal.append(float(beyond.mean()))
        early |= beyond
    able = [share for share in nominal if share > 0]
    return tuple(share or able[0] for share in nominal)
