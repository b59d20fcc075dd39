"""Proves: intervals cover, the sign-flip test is exact, and Holm is Holm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dashboards.verdict.statistics import (
    bootstrap_interval,
    fewest_seeds,
    holm,
    sign_flip_p,
    smallest_p,
    spread,
    student_interval,
)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only +++ and --- reach 6
        ([-1.0, 2.0, 3.0], 4 / 8),  # |sum| >= 4: (1,2,3) and (-1,2,3), and their mirrors
        ([1.0, 2.0, 3.0, 4.0], 2 / 16),
        ([-1.0, 2.0, 3.0, 4.0], 4 / 16),  # >= 8: none or only the 1 flipped
        ([-3.0, 1.0, 1.0, 1.0], 1.0),  # sums to 0
        ([1.0, 1.0, 1.0, 1.0, 1.0], 2 / 32),
        ([1.0, 1.0, 1.0, 1.0, -1.0], 12 / 32),  # >= 3: no flip or one of five, mirrored
        ([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], 2 / 64),
        ([-1.0, 2.0, 4.0, 8.0, 16.0, 32.0], 4 / 64),
        ([1.0, 2.0, -4.0, 8.0, 16.0, 32.0], 10 / 64),  # subsets of {1, 2, 4} summing to <= 4: 5
        ([0.0, 0.0, 0.0], 1.0),
    ],
)
def test_sign_flip_by_hand(values: list[float], p: float) -> None:
    assert sign_flip_p(values) == p
    assert sign_flip_p([-v for v in values]) == p


def test_sign_flip_ties_survive_rounding() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point; the mirror image of the data is no rarer for it."""
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0


def test_sign_flip_monte_carlo_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, 24)
    assert sign_flip_p(values) == sign_flip_p(values)
    exact = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=60_000, rng=1
    ).pvalue
    # both are Monte Carlo: 4 standard errors of a proportion near 0.1 at 6e4 draws
    assert abs(sign_flip_p(values) - exact) < 4 * math.sqrt(2 * exact * (1 - exact) / 6e4)


def test_sign_flip_keeps_its_level_under_the_null() -> None:
    rng = np.random.default_rng(11)
    p = [sign_flip_p(rng.standard_t(2, 8)) for _ in range(2000)]
    rate = float(np.mean(np.array(p) < 0.05))
    # the attainable level is 12/256 = 0.047; 4 standard errors at 2000 draws
    assert abs(rate - 12 / 256) < 4 * math.sqrt(0.047 * 0.953 / 2000)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_fewest_seeds_are_the_first_below_alpha() -> None:
    assert [smallest_p(n) for n in (3, 6)] == [0.25, 2 / 64]
    assert [fewest_seeds(k) for k in (1, 2, 3, 4)] == [6, 7, 7, 8]
    for k in range(1, 10):
        n = fewest_seeds(k)
        clear = [sign_flip_p(np.arange(1.0, n + 1))] * k
        assert max(holm(clear)) < 0.05
        assert max(holm([sign_flip_p(np.arange(1.0, n))] * k)) >= 0.05


def test_bootstrap_is_close_to_student_for_many_normal_values() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 200)
    ours, student = bootstrap_interval(values), student_interval(values)
    assert ours.method == "bca"
    assert ours.note is None
    assert ours.low == pytest.approx(student.low, abs=0.02)
    assert ours.high == pytest.approx(student.high, abs=0.02)


def test_student_interval_is_the_textbook_one() -> None:
    found = student_interval([1.0, 2.0, 3.0])  # sd 1, t(.975, 2) = 4.302653
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert student_interval([1.0]).known is False


def test_intervals_cover_and_short_samples_are_owned_up_to() -> None:
    """A bootstrap of 20 covers about 93 %, of 3 about 70 %: that is why SAME asks Student as well."""
    rng = np.random.default_rng(5)
    covered = {3: [0, 0], 20: [0, 0]}
    for n, counts in covered.items():
        for _ in range(1000):
            values = rng.normal(1.0, 1.0, n)
            for place, found in enumerate(
                (bootstrap_interval(values, resamples=999), student_interval(values))
            ):
                assert found.low is not None
                assert found.high is not None
                counts[place] += found.low <= 1.0 <= found.high
    assert 0.91 < covered[20][0] / 1000 < 0.97
    assert covered[3][0] / 1000 < 0.80
    for n in covered:
        assert abs(covered[n][1] / 1000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000)
    assert "too short" in str(bootstrap_interval([1.0, 2.0, 4.0]).note)


def test_bootstrap_follows_skew() -> None:
    """On skewed data the BCa interval reaches further into the long tail, Student's cannot."""
    values = np.random.default_rng(2).exponential(1.0, 30)
    found = bootstrap_interval(values)
    assert found.low is not None
    assert found.high is not None
    assert found.high - values.mean() > 1.1 * (values.mean() - found.low)


def test_degenerate_samples_are_said_openly() -> None:
    assert bootstrap_interval([0.3]).known is False
    assert "one pair" in str(bootstrap_interval([0.3]).note)
    constant = bootstrap_interval([0.1 + 0.2, 0.3, 0.3])
    assert constant.method == "constant"
    assert constant.low == constant.high == pytest.approx(0.3)
    zero = bootstrap_interval([0.0, 0.0])
    assert (zero.low, zero.high) == (0.0, 0.0)
    assert student_interval([0.0, 0.0]).within(0.0)
    assert not bootstrap_interval([0.3]).within(1.0)


def test_bootstrap_repeats_itself() -> None:
    values = [0.2, 0.5, 0.1, 0.9]
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_spread_is_the_textbook_one() -> None:
    found = spread([1.0, 2.0, 4.0])  # squares about the mean: 16/9 + 1/9 + 25/9
    assert (found.n, found.mean) == (3, pytest.approx(7 / 3))
    assert found.sd == pytest.approx(math.sqrt(42 / 9 / 2))
    assert spread([0.1 + 0.2, 0.3]).sd == 0.0
    assert spread([5.0]).sd is None
