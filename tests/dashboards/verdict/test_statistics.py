"""Proves: the sign-flip test is exact, its intervals are what it does not reject, and they cover."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dashboards.verdict.statistics import (
    ALPHA,
    Floats,
    Interval,
    fewest_seeds,
    interval,
    mean_interval,
    range_level,
    sign_flip_p,
    signs,
    smallest_p,
    spread,
    student_interval,
)


def literal_p(values: Floats) -> float:
    """Every sign of every value, counted one by one."""
    flips = list(itertools.product((1, -1), repeat=len(values)))
    reached = abs(math.fsum(values)) - 1e-9
    sums = (abs(math.fsum(s * v for s, v in zip(flip, values, strict=True))) for flip in flips)
    return sum(one >= reached for one in sums) / len(flips)


def ends(found: Interval) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize("n", range(1, 13))
def test_up_to_twelve_values_get_every_sign_once(n: int) -> None:
    rows = signs(n)
    assert rows.shape == (2**n, n)
    assert set(np.unique(rows)) == {-1.0, 1.0}
    assert len(np.unique(rows, axis=0)) == 2**n
    assert (rows[0] == 1).all()


@pytest.mark.parametrize(("n", "more"), [(3, 7), (6, 12), (10, 18), (13, 20)])
def test_signs_of_few_values_are_those_of_many(n: int, more: int) -> None:
    """A look at few seeds sees each of their signs equally often among the signs of all."""
    first = signs(more)[:, :n]
    if n <= 12:
        _, counts = np.unique(first, axis=0, return_counts=True)
        assert set(counts) == {len(first) // 2**n}
    else:
        assert (first == signs(n)).all()


def test_many_signs_are_balanced_and_the_same_on_every_call() -> None:
    rows = signs(20)
    assert rows.shape == (2**13, 20)
    assert (rows[0] == 1).all()
    assert (rows[:, :12].sum(axis=0) == 0).all()
    # 4 standard errors of a mean, and of a product, of 8,192 independent signs
    correlations = rows.T @ rows / len(rows) - np.eye(20)
    assert np.abs(rows.mean(axis=0)).max() < 4 / math.sqrt(len(rows))
    assert np.abs(correlations).max() < 4 / math.sqrt(len(rows))
    signs.cache_clear()
    assert (signs(20) == rows).all()


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only +++ and --- reach 6
        ([-1.0, 2.0, 3.0], 4 / 8),  # |sum| >= 4: (1,2,3) and (-1,2,3), and their mirrors
        ([-3.0, 1.0, 1.0, 1.0], 1.0),  # sums to 0
        ([1.0, 1.0, 1.0, 1.0, -1.0], 12 / 32),  # >= 3: no flip or one of five, mirrored
        ([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], 2 / 64),
        ([1.0, 2.0, -4.0, 8.0, 16.0, 32.0], 10 / 64),  # subsets of {1, 2, 4} summing to <= 4: 5
        ([0.0, 0.0, 0.0], 1.0),
        ([], 1.0),
    ],
)
def test_sign_flip_by_hand(values: list[float], p: float) -> None:
    assert sign_flip_p(values) == p
    assert sign_flip_p([-v for v in values]) == p


@pytest.mark.parametrize("n", [1, 2, 5, 8, 10])
def test_sign_flip_is_the_share_of_all_flips(n: int) -> None:
    rng = np.random.default_rng(n)
    for values in (rng.normal(0.4, 1, n), rng.integers(-2, 4, n).astype(float)):
        assert sign_flip_p(values) == literal_p(values)


def test_sign_flip_ties_survive_rounding() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point; the mirror image of the data is no rarer for it."""
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0


def test_many_values_get_the_exact_p_within_the_noise_of_8192_flips() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, 16)
    exact = 0.0
    for block in itertools.product((1.0, -1.0), repeat=4):
        sums = signs(12) @ values[:12] + float(np.dot(block, values[12:]))
        exact += float(np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9)) / 16
    error = 4 * math.sqrt(exact * (1 - exact) / 2**13)
    assert 0 < abs(sign_flip_p(values) - exact) < error


def test_sign_flip_keeps_its_level_under_the_null() -> None:
    rng = np.random.default_rng(11)
    p = [sign_flip_p(rng.standard_t(2, 8)) for _ in range(2000)]
    rate = float(np.mean(np.array(p) < 0.05))
    # the attainable level is 12/256 = 0.047; 4 standard errors at 2000 draws
    assert abs(rate - 12 / 256) < 4 * math.sqrt(0.047 * 0.953 / 2000)


@pytest.mark.parametrize(("n", "miss"), [(6, 0.05), (7, 0.05), (8, 0.05), (8, 0.02), (9, 0.01)])
def test_an_interval_is_all_that_the_test_does_not_reject(n: int, miss: float) -> None:
    """Brute force: every mean on a fine grid is tested by itself."""
    values = np.random.default_rng([n, 5]).gamma(2.0, 1.0, n)
    low, high = ends(interval(values, miss))
    grid = np.linspace(values.min() - 0.1, values.max() + 0.1, 4001)
    flips = np.abs(signs(n) @ (values[:, None] - grid))
    observed = np.abs((values[:, None] - grid).sum(axis=0))
    accepted = grid[np.mean(flips >= observed - 1e-9, axis=0) > miss]
    step = grid[1] - grid[0]
    assert accepted.min() == pytest.approx(low, abs=step)
    assert accepted.max() == pytest.approx(high, abs=step)
    assert np.allclose(np.diff(accepted), step), "no holes"


@pytest.mark.parametrize("n", [6, 8, 11])
def test_zero_is_outside_exactly_when_the_test_rejects_it(n: int) -> None:
    rng = np.random.default_rng(n)
    outside = 0
    for shift in np.linspace(0, 1.5, 60):
        values = rng.normal(shift, 1, n)
        low, high = ends(interval(values))
        assert (not low <= 0 <= high) == (sign_flip_p(values) <= ALPHA)
        outside += not low <= 0 <= high
    assert 10 < outside < 60


def test_beyond_twelve_values_zero_is_outside_where_the_test_is_clear() -> None:
    """Both rest on the same 8,192 random flips, the interval on either tail alone: they agree within noise."""
    rng = np.random.default_rng(2)
    noise = 4 * math.sqrt(2 * ALPHA / 2**13)
    clear = 0
    for shift in np.linspace(0, 1, 60):
        values = rng.normal(shift, 1, 15)
        p = sign_flip_p(values)
        if abs(p - ALPHA) > noise:
            low, high = ends(interval(values))
            assert (not low <= 0 <= high) == (p < ALPHA)
            clear += 1
    assert clear > 40


@pytest.mark.parametrize(
    ("n", "method"), [(3, "t"), (5, "t"), (6, "sign-flip"), (9, "sign-flip"), (14, "sign-flip")]
)
def test_intervals_cover(n: int, method: str) -> None:
    rng = np.random.default_rng([n, 1])
    hits = 0
    for _ in range(1500):
        found = interval(rng.normal(1.0, 1.0, n))
        low, high = ends(found)
        hits += low <= 1.0 <= high
        assert (found.method, found.n, found.level) == (method, n, 0.95)
    # 4 standard errors at 1500 draws; six values cover in 62/64, the nearest that there is
    exact = {6: 62 / 64, 9: 1 - 2 * 12 / 512}.get(n, 0.95)
    assert abs(hits / 1500 - exact) < 4 * math.sqrt(0.05 * 0.95 / 1500)


def test_an_interval_among_several_looks_is_wider() -> None:
    values = np.random.default_rng(4).normal(0, 1, 9)
    widths = [high - low for low, high in (ends(interval(values, m)) for m in (0.05, 0.02, 0.005))]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    few = interval(values[:6], 0.01)
    assert few.method == "t", (
        "no test of six reaches 0.01: what is not rejected would be everything"
    )
    assert few == student_interval(values[:6], 0.01)


def test_student_interval_is_the_textbook_one() -> None:
    low, high = ends(student_interval([1.0, 2.0, 3.0]))  # sd 1, t(.975, 2) = 4.302653
    assert low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert interval([1.0, 2.0, 3.0]) == student_interval([1.0, 2.0, 3.0])


def test_a_mean_of_ratios_has_its_interval_on_the_logarithm() -> None:
    values = np.exp(np.random.default_rng(1).normal(1, 0.3, 7))
    low, high = ends(mean_interval(values, ratio=True))
    inner = ends(interval(np.log(values)))
    assert (low, high) == pytest.approx((math.exp(inner[0]), math.exp(inner[1])))
    assert low > 0
    assert mean_interval(values, ratio=False) == interval(values)
    signed = np.array([-0.1, 0.2, 0.3])
    assert mean_interval(signed, ratio=True) == interval(signed)
    three = ends(mean_interval([0.1, 5.0, 9.0], ratio=True))
    assert three[0] > 0, "Student's on the values themselves would begin below zero"


def test_the_range_covers_the_middle_as_surely_as_it_says() -> None:
    assert [range_level(n) for n in (2, 3, 5)] == [0.5, 0.75, 0.9375]
    draws = np.random.default_rng(8).exponential(1.0, (20_000, 3))
    inside = (draws.min(axis=1) < math.log(2)) & (math.log(2) < draws.max(axis=1))
    assert inside.mean() == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 20_000))


def test_six_are_the_fewest_that_can_decide() -> None:
    assert [smallest_p(n) for n in (3, 5, 6)] == [0.25, 2 / 32, 2 / 64]
    assert fewest_seeds() == 6
    assert fewest_seeds(0.01) == 8
    for n in range(1, 10):
        assert sign_flip_p(np.arange(1.0, n + 1)) == smallest_p(n)


def test_degenerate_samples_are_said_openly() -> None:
    for values in ([], [0.3]):
        assert (interval(values).known, interval(values).method) == (False, "none")
        assert not student_interval(values).known
    constant = interval([0.1 + 0.2, 0.3, 0.3])
    assert constant.method == "constant"
    assert constant.low == constant.high == pytest.approx(0.3)
    assert ends(interval([0.0, 0.0])) == (0.0, 0.0)


def test_spread_is_the_textbook_one() -> None:
    found = spread([1.0, 2.0, 4.0])  # squares about the mean: 16/9 + 1/9 + 25/9
    assert (found.n, found.mean) == (3, pytest.approx(7 / 3))
    assert found.sd == pytest.approx(math.sqrt(42 / 9 / 2))
    assert spread([0.1 + 0.2, 0.3]).sd == 0.0
    assert spread([5.0]).sd is None
