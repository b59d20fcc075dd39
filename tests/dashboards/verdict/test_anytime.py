"""Proves: evidence may be read whenever one likes, and a large amount of it is as rare as promised."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dashboards.verdict.anytime import anytime_interval, closed, evidence
from dashboards.verdict.statistics import ALPHA, Floats


def all_signs(values: Floats) -> Floats:
    """[n, 2^n]: every sign of every value."""
    return np.array(list(itertools.product((1.0, -1.0), repeat=len(values)))).T * values[:, None]


@pytest.mark.parametrize("d", [0.01, 0.7, 3.0, 1e6])
def test_a_bet_is_worth_one_on_average_over_the_two_signs(d: float) -> None:
    found = evidence(np.array([[d, -d]]))
    assert found.mean(axis=1) == pytest.approx([1.0, 1.0], rel=1e-12)
    assert found[:, 0] == pytest.approx(found[::-1, 1]), "the other side bets on the other sign"
    assert found[0, 0] > 1 > found[1, 0]


@pytest.mark.parametrize("n", [1, 4, 9])
def test_evidence_is_worth_one_on_average_over_all_signs(n: int) -> None:
    """Exactly, whatever the sizes of the differences: that is what makes it an e-value."""
    values = np.abs(np.random.default_rng(n).standard_t(2, n))
    assert evidence(all_signs(values)).mean(axis=1) == pytest.approx([1.0, 1.0], rel=1e-9)
    assert evidence(all_signs(np.append(values, 0.0))).mean(axis=1) == pytest.approx([1.0, 1.0])


def test_no_more_than_a_twentieth_of_all_signs_ever_reaches_twenty() -> None:
    """At any time: all signs of ten differences, read after each of them."""
    columns = all_signs(np.abs(np.random.default_rng(3).normal(0, 1, 10)))
    read = np.stack([evidence(columns[:n]).mean(axis=0) for n in range(1, 11)])
    ever = float((read.max(axis=0) >= 1 / ALPHA).mean())
    assert 0.5 * ALPHA < ever <= ALPHA


@pytest.mark.parametrize("noise", ["normal", "t3", "changing"])
def test_thirty_looks_that_nobody_planned_claim_no_more_than_five_percent(noise: str) -> None:
    rng = np.random.default_rng(30)
    shape = (30, 4000)
    columns = rng.standard_t(3, shape) if noise == "t3" else rng.standard_normal(shape)
    if noise == "changing":
        columns *= np.geomspace(1, 100, 30)[:, None]
    ever = np.zeros(4000)
    for n in range(1, 31):
        ever = np.maximum(ever, evidence(columns[:n]).mean(axis=0))
    rate = float((ever >= 1 / ALPHA).mean())
    assert 0.01 < rate <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 4000)


def test_six_in_a_row_are_enough_and_five_are_not() -> None:
    for n, enough in ((5, False), (6, True)):
        both = evidence(np.random.default_rng(n).uniform(0.5, 1.5, (n, 1))).mean(axis=0)
        assert (both[0] >= 1 / ALPHA) == enough


def test_evidence_grows_with_more_of_the_same_and_not_without_a_pair() -> None:
    values = np.random.default_rng(8).normal(0.8, 1, (20, 1))
    read = [float(evidence(values[:n])[0, 0]) for n in (5, 10, 20)]
    assert read == sorted(read)
    holes = np.insert(values, [3, 7], np.nan, axis=0)
    assert evidence(holes) == pytest.approx(evidence(values))
    assert evidence(np.full((3, 1), np.nan)) == pytest.approx(np.ones((2, 1)))


def test_evidence_has_no_unit() -> None:
    values = np.random.default_rng(8).normal(0.8, 1, (9, 2))
    assert evidence(1000 * values) == pytest.approx(evidence(values))
    assert evidence(-values) == pytest.approx(evidence(values)[::-1])


@pytest.mark.parametrize("others", [1.0, 0.1])
def test_evidence_for_all_at_once_is_the_least_mean_with_any_others(others: float) -> None:
    values = np.exp(np.random.default_rng(2).normal(0, 2, 7))
    weights = np.array([1.0, *[others] * 6])
    literal = [
        min(
            float(np.average(values[list(subset)], weights=weights[list(subset)]))
            for size in range(1, 8)
            for subset in itertools.combinations(range(7), size)
            if i in subset
        )
        for i in range(7)
    ]
    assert closed(values, weights) == pytest.approx(literal)
    assert closed(np.array([30.0]), np.ones(1)) == pytest.approx([30.0])
    assert closed(np.array([]), np.array([])).shape == (0,)


@pytest.mark.parametrize("n", [6, 9, 25])
def test_an_interval_is_the_means_that_evidence_does_not_exclude(n: int) -> None:
    values = np.random.default_rng(n).normal(5, 2, n)
    found = anytime_interval(values)
    assert (found.method, found.n, found.level) == ("anytime", n, 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low < values.mean() < found.high
    step = 1e-5 * (found.high - found.low)
    for end, outwards in ((found.low, -step), (found.high, step)):
        inside, outside = (
            float(evidence((values - (end + s))[:, None]).mean()) for s in (-outwards, outwards)
        )
        assert inside < 1 / ALPHA <= outside
    moved = anytime_interval(10 * values - 7)
    assert (moved.low, moved.high) == pytest.approx((10 * found.low - 7, 10 * found.high - 7))


def test_intervals_cover_at_all_times_together() -> None:
    rng = np.random.default_rng(14)
    missed = 0
    for _ in range(200):
        values = rng.normal(0, 1, 20)
        found = [anytime_interval(values[:n]) for n in range(7, 21, 3)]
        missed += any(not (f.low or 0) <= 0 <= (f.high or 0) for f in found)
    assert missed / 200 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 200)


def test_few_or_equal_values_are_said_openly() -> None:
    assert not anytime_interval([1.0]).known
    assert anytime_interval([1.0, 2.0, 3.0]).method == "t", "three bets exclude nothing"
    equal = anytime_interval([2.0] * 8)
    assert (equal.low, equal.high, equal.method) == (2.0, 2.0, "constant")


def test_an_outlier_does_not_leave_an_interval_without_width() -> None:
    """The mean itself is excluded where one value drags it away from all others."""
    values = [1.0 + 0.01 * k for k in range(40)] + [-45.0]
    found = anytime_interval(values)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 0.01
    assert found.low < float(np.median(values)) < found.high
