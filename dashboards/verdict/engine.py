"""Which statistics decide? All samples of a sweep in, one decision for each out.

Every cell and every measure is in one family: whatever a report claims of a sweep without differences, it
claims anything at all in at most 5 % of such sweeps, over all planned looks.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.verdict.anytime import anytime_interval, closed
from dashboards.verdict.anytime import evidence as bets
from dashboards.verdict.looks import Family, misses
from dashboards.verdict.samples import Sample
from dashboards.verdict.statistics import (
    ALPHA,
    SLACK,
    Floats,
    Interval,
    interval,
    one_sided_p,
    sign_flip_p,
)
from dashboards.verdict.values import Aside, Guarantee, Key, Name, Word

LEAST_LEFT = 0.001
"""What may be spent beyond the planned looks even if they have spent everything."""

SECONDARY = 0.85
"""How much a measure of the way there, or a further protocol, counts in the family beside the final metric, which
decides: at 1 they would take 5 points of its power of 88 % (12 pairs, one standard deviation), so 1 point; they still
are claimed.
"""

_STAKE = 0.1
"""The same among e-values, which are averaged: three measures of the way there without evidence cost the final
metric a factor of 1.3, not of 4.
"""


@dataclass(frozen=True)
class Decision:
    """What the statistics say of one measure of one cell; differences are above 0 where it is worse."""

    word: Word
    seeds: tuple[int, ...]
    """Those that count: of the look at which it was decided, or all that ended."""
    p: float
    """Of these seeds, this comparison alone, this look alone."""
    p_adjusted: float | None
    """Over all comparisons and looks; None before the first look."""
    p_at: int | None
    """Seeds at which `p_adjusted` was made."""
    interval: Interval
    decided_at: int | None
    """Number of seeds at which the word fell."""


class Engine:
    """Replays the looks at a sweep."""

    def __init__(
        self,
        samples: Mapping[str, Mapping[Name | Aside, Sample]],
        ended: Mapping[str, Sequence[int]],
        order: Sequence[int],
        looks: Sequence[int],
        margins: Mapping[Key, float | None],
        stopped: int = 0,
    ) -> None:
        """`ended` has each rival's seeds without anything to wait for: a cell that is not in it, the baseline with
        its further protocols, waits for them. `order` is that of all seeds; `margins` are on the scale of the
        differences, None where SAME cannot be said; `stopped` counts the cells that a policy left out because of
        what it saw of them.
        """
        self._samples: dict[Key, Sample] = {
            (cell, name): sample for cell, own in samples.items() for name, sample in own.items()
        }
        self._ended = {cell: set(seeds) for cell, seeds in ended.items()}
        self._order = list(order)
        self._looks = tuple(looks) or (len(self._order),)
        self._planned = bool(looks)
        self._keys = list(self._samples)
        self._margins = np.array([self._margin(key, margins[key]) for key in self._keys])
        """[V], NaN where SAME cannot be said."""
        is_final = np.array([name == "final" for _, name in self._keys], dtype=bool)
        weights, self._stakes = np.where(is_final, 1.0, SECONDARY), np.where(is_final, 1.0, _STAKE)
        self._screened = 1.0 + stopped / max(1, len(ended))
        """How many times more cells there were than survivors: these were chosen by their own numbers."""
        alpha = ALPHA / self._screened
        self._different = Family(self._looks, two_sided=True, weights=weights, alpha=alpha)
        self._equal = Family(self._looks, two_sided=False, weights=np.tile(weights, 2), alpha=alpha)
        self._decided: dict[Key, Decision] = {}
        self._settled: dict[str, int] = {}
        """Cell to the number of seeds at which it was decided; its further measures end with it."""
        self._companions = {cell for cell in samples if cell not in ended}
        self._p: dict[Key, tuple[float, int]] = {}
        """Adjusted p, and the number of seeds it was made at."""
        self._passed = 0
        self._anytime = False

    def run(self) -> dict[Key, Decision]:
        """The decision on every cell and measure."""
        while self._passed < len(self._looks) and self._is_complete(self._looks[self._passed]):
            self._look(self._looks[self._passed])
        if self._passed == len(self._looks):
            self._beyond()
        return {key: self._decided.get(key) or self._open(key) for key in self._keys}

    def guarantee(self) -> Guarantee:
        """What stands behind the words."""
        is_over = self._passed == len(self._looks) or not self._undecided()
        following = None if is_over else self._looks[self._passed]
        return Guarantee(self._looks, self._passed, following, self._anytime)

    def _undecided(self) -> list[str]:
        return [cell for cell in self._ended if cell not in self._settled]

    def _is_complete(self, n: int) -> bool:
        """Whether every pair of the look has ended; without a plan, what is there is all there will be."""
        if not self._planned:
            return True
        seeds = self._order[:n]
        open_ = self._undecided()
        return (
            bool(open_)
            and len(seeds) == n
            and all(s in self._ended[c] for c in open_ for s in seeds)
        )

    def _look(self, n: int) -> None:
        seeds = self._order[:n]
        columns = self._columns(seeds)
        different = self._different.look(columns)
        equal = self._equal.look(self._shifted(columns)).reshape(2, -1).max(axis=0)
        miss = misses(self._looks)[self._passed] / self._screened
        self._passed += 1
        for place, key in enumerate(self._keys):
            if key in self._decided or key[0] in self._settled:
                continue
            self._p[key] = float(different[place]), n
            word = _word(columns[:, place], different[place] < ALPHA, equal[place] < ALPHA)
            if word != "INCONCLUSIVE":
                self._decide(key, word, seeds, miss, n)
        self._settle(n)

    def _settle(self, n: int) -> None:
        for cell, name in self._decided:
            if name == "final":
                self._settled.setdefault(cell, n)
        if self._ended and not self._undecided():
            for cell in self._companions:
                self._settled.setdefault(cell, n)

    def _decide(
        self, key: Key, word: Word, seeds: Sequence[int], miss: float | None, n: int
    ) -> None:
        sample = self._samples[key].until(seeds)
        if miss is not None and not any(sample.lost):
            miss = max(miss, self._level(key, word, sample))
        self._decided[key] = Decision(
            word,
            tuple(sample.cell),
            sign_flip_p(_known(sample.column(list(sample.cell)))),
            *self._p[key],
            _interval(sample, miss),
            n,
        )

    def _level(self, key: Key, word: Word, sample: Sample) -> float:
        """At what level this comparison alone says the word: its interval must not contradict it.

        Among several looks the joint test takes its levels from all differences, `misses` from normal ones.
        """
        differences = sample.differences()
        if word == "SAME":
            margin = self._margins[self._keys.index(key)]
            sides = [margin - differences, differences + margin]
        else:
            sides = [differences * np.sign(differences.sum())]
        return 2 * max(map(one_sided_p, sides)) + SLACK

    def _open(self, key: Key) -> Decision:
        cell = key[0]
        sample = self._samples[key]
        if cell in self._settled:
            sample = sample.until(self._order[: self._settled[cell]])
        miss = misses(self._looks)[max(0, self._passed - 1)] / self._screened
        p, at = self._p.get(key, (None, None))
        return Decision(
            "INCONCLUSIVE",
            tuple(sample.cell),
            sign_flip_p(_known(sample.column(list(sample.cell)))),
            p,
            at,
            _interval(sample, None if self._anytime and cell not in self._settled else miss),
            None,
        )

    def _columns(self, seeds: Sequence[int]) -> Floats:
        """[n, V]; what stood out before is NaN, a cell that was decided has the seeds it was decided on."""
        columns = np.full((len(seeds), len(self._keys)), math.nan)
        for place, key in enumerate(self._keys):
            if key in self._decided:
                continue
            own = seeds[: self._settled.get(key[0], len(seeds))]
            columns[: len(own), place] = self._samples[key].column(own)
        return columns

    def _shifted(self, columns: Floats) -> Floats:
        """[n, 2 V] above 0 where a difference is on the near side of the upper margin, and of the lower."""
        return np.concatenate([self._margins - columns, columns + self._margins], axis=1)

    def _margin(self, key: Key, margin: float | None) -> float:
        return math.nan if margin is None or any(self._samples[key].lost) else margin

    def _beyond(self) -> None:
        """More seeds than were planned for: evidence that may be read at any time, after each of them."""
        for n in range(self._looks[-1] + 1, len(self._order) + 1):
            seeds = self._order[:n]
            ready = [c for c in self._undecided() if all(s in self._ended[c] for s in seeds)]
            if not ready:
                return
            self._anytime = True
            self._bet(seeds, {*ready, *self._companions})
            self._settle(n)

    def _bet(self, seeds: Sequence[int], ready: Container[str]) -> None:
        left = max(LEAST_LEFT / self._screened, ALPHA / self._screened - self._different.size)
        columns = self._columns(seeds)
        active = np.asarray(np.isfinite(columns).any(axis=0), dtype=bool)
        evidence = np.zeros((2, len(self._keys)))
        different = bets(columns[:, active])
        evidence[0, active] = closed(different.mean(axis=0), self._stakes[active])
        same = bets(self._shifted(columns))[0].reshape(2, -1).min(axis=0) / 2
        able = active & np.isfinite(self._margins)
        evidence[1, able] = closed(same[able], self._stakes[able])
        for place, key in enumerate(self._keys):
            if not active[place] or key[0] not in ready:
                continue
            p = min(1.0, ALPHA / left / max(evidence[0, place], 1e-300))
            self._p[key] = p, len(seeds)
            claims = evidence[:, place] >= 1 / left
            word = _word(columns[:, place], bool(claims[0]), bool(claims[1]))
            if word != "INCONCLUSIVE":
                self._decide(key, word, seeds, None, len(seeds))


def _word(column: Floats, is_different: bool, is_same: bool) -> Word:
    if is_same:
        return "SAME"
    if is_different:
        return "WORSE" if np.nansum(column) > 0 else "BETTER"
    return "INCONCLUSIVE"


def _known(column: Floats) -> Floats:
    return np.asarray(column[np.isfinite(column)], dtype=np.float64)


def _interval(sample: Sample, miss: float | None) -> Interval:
    """Of the surviving pairs; `miss` is None where nobody planned when to look."""
    differences = sample.differences()
    return anytime_interval(differences) if miss is None else interval(differences, miss)
