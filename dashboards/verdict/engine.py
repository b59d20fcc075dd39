"""Which statistics decide? All samples of a sweep in, one decision for each out.

The only place that chooses tests, corrections and intervals; another method replaces this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dashboards.verdict.planning import MoreSeeds, more_seeds
from dashboards.verdict.samples import Sample
from dashboards.verdict.statistics import (
    ALPHA,
    Interval,
    bootstrap_interval,
    holm,
    sign_flip_p,
    student_interval,
)
from dashboards.verdict.values import Name, Word


@dataclass(frozen=True)
class Decision:
    """What the statistics say of one measure of one cell."""

    word: Word
    p: float
    p_holm: float
    comparisons: int
    """How many cells the correction counts."""
    interval: Interval
    student: Interval
    more: MoreSeeds | None
    """Only when INCONCLUSIVE."""


def decide(
    samples: Mapping[str, Mapping[Name, Sample]], margin: float
) -> dict[tuple[str, Name], Decision]:
    """A decision for every cell and measure; `margin` is relative to the baseline's mean.

    Each measure is a family of its own: sign-flip tests, corrected by Holm over the cells.
    """
    decisions: dict[tuple[str, Name], Decision] = {}
    for name in dict.fromkeys(name for own in samples.values() for name in own):
        cells = [cell for cell, own in samples.items() if name in own]
        raw = [sign_flip_p(samples[cell][name].tested()) for cell in cells]
        for cell, p, p_holm in zip(cells, raw, holm(raw), strict=True):
            decisions[cell, name] = _decision(samples[cell][name], p, p_holm, len(cells), margin)
    return decisions


def _decision(sample: Sample, p: float, p_holm: float, comparisons: int, margin: float) -> Decision:
    differences, tested = sample.differences(), sample.tested()
    limit = margin * sample.scale
    interval, student = bootstrap_interval(differences), student_interval(differences)
    lost = any(sample.diverged)
    same = interval.within(limit) and student.within(limit) and not lost
    word = _word(tested, p_holm, same=same, lower=sample.lower_is_better)
    open_ = word == "INCONCLUSIVE"
    more = more_seeds(tested, margin=None if lost else limit, comparisons=comparisons)
    return Decision(word, p, p_holm, comparisons, interval, student, more if open_ else None)


def _word(tested: list[float], p: float, *, same: bool, lower: bool) -> Word:
    if same:
        return "SAME"
    if p < ALPHA:
        return "BETTER" if (sum(tested) < 0) == lower else "WORSE"
    return "INCONCLUSIVE"
