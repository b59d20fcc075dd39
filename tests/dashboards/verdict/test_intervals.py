"""Proves: no word contradicts its own interval, at planned looks, beyond them, and with many seeds."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from dashboards.verdict.judging import judge
from dashboards.verdict.values import Measure
from tests.honesty.worlds import Noise, World

NOISES: tuple[Noise, ...] = ("gaussian", "log-normal", "t3")
EFFECTS = (0.0, 0.02, -0.02, 0.05, -0.05, 0.1, -0.1, 0.2)


def contradicts(measure: Measure) -> bool:
    """Whether an interval holds what the word rules out: no difference, or one that matters."""
    low, high = measure.interval.low, measure.interval.high
    assert low is not None
    assert high is not None
    if measure.word == "SAME":
        assert measure.margin is not None
        return low <= 1 / (1 + measure.margin) - 1 or high >= measure.margin
    sign = 1 if (measure.word == "BETTER") != measure.lower_is_better else -1
    return min(sign * low, sign * high) <= 0


@pytest.mark.parametrize(
    ("worlds", "looks", "seeds", "margin"),
    [
        (300, (6, 8, 10), 10, 0.05),
        (60, (3,), 11, 0.15),
        (50, (14,), 14, 0.05),
        (25, (8, 14, 18), 18, 0.05),
    ],
    ids=["looks", "beyond the plan", "one look", "random signs"],
)
def test_no_word_contradicts_its_interval(
    worlds: int, looks: tuple[int, ...], seeds: int, margin: float
) -> None:
    words: Counter[str] = Counter()
    for number in range(worlds):
        rng = np.random.default_rng([7, number])
        effects = tuple(float(effect) for effect in rng.choice(EFFECTS, size=2))
        whole = World(NOISES[number % 3], effects, margin=margin).draw(seeds, rng)
        made = dataclasses.replace(whole, looks=looks, order=tuple(range(seeds)))
        for measure in (m for c in judge(made).comparisons for m in c.measures()):
            if measure.word == "INCONCLUSIVE" or measure.lost_baseline or measure.lost_cell:
                continue
            words[measure.word] += 1
            assert not contradicts(measure), (number, measure)
    assert min(words[word] for word in ("BETTER", "WORSE", "SAME")) >= 3, words


def test_signs_beyond_twelve_seeds_are_random_and_the_interval_knows_it() -> None:
    """8,192 random signs have not as many in one tail as in the other: the interval goes by the word's own."""
    found = 0
    for number in range(400):
        rng = np.random.default_rng([3, number])
        whole = World("gaussian", (0.045,)).draw(14, rng)
        trials = tuple(dataclasses.replace(trial, curves={}) for trial in whole.trials)
        made = dataclasses.replace(whole, trials=trials, looks=(14,), order=tuple(range(14)))
        (measure,) = judge(made).comparisons[0].measures()
        if measure.word == "WORSE" and measure.p > 0.04:
            found += 1
            assert not contradicts(measure), number
    assert found >= 10, "near the threshold is where it matters"
