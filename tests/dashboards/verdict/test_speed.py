"""Proves: a curve that is s times as fast is found to be, a noisier one is not; areas are areas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from dashboards.verdict.evidence import Curve
from dashboards.verdict.speed import (
    Pair,
    SpeedUp,
    mean_level,
    mean_time,
    monotone,
    primary_target,
    reach,
    speed_up,
    target_range,
    targets_between,
)
from dashboards.verdict.statistics import Floats, sign_flip_p

KIMG = np.array([10.0, 20.0, 30.0, 40.0, 50.0])


def power_law(speed: float = 1.0, kimg: Floats = KIMG) -> Curve:
    return Curve(kimg, 100 * (kimg * speed) ** -0.8)


def lines(pairs: dict[int, Pair], *, lower: bool = True) -> SpeedUp | None:
    """The speed-up of pairs over their range of targets."""
    ends = target_range(list(pairs.values()), lower_is_better=lower)
    if ends is None:
        return None
    targets = targets_between(*ends)
    base, cell = (
        {seed: reach(pair[side], targets, lower_is_better=lower) for seed, pair in pairs.items()}
        for side in (0, 1)
    )
    return speed_up(targets, base, cell)


def test_reach_is_exact_on_a_power_law() -> None:
    kimg = np.array([10.0, 12.3, 27.0, 50.0])
    found = reach(power_law(), 100 * kimg**-0.8, lower_is_better=True)
    assert found == pytest.approx(kimg, rel=1e-12)


def test_reach_is_the_first_evaluation_or_never_beyond_the_ends() -> None:
    assert list(reach(power_law(), [1e-3, 99.0], lower_is_better=True)) == [math.inf, 10.0]


def test_reach_crosses_zero_and_starts_from_nothing() -> None:
    signed = Curve(np.array([1.0, 4.0]), np.array([1.0, -1.0]))  # as KID may be
    assert reach(signed, [0.0], lower_is_better=True) == pytest.approx([2.0])
    started = Curve(np.array([0.0, 4.0, 8.0]), np.array([9.0, 3.0, 1.0]))
    assert list(reach(started, [9.0, 5.0, 3.0], lower_is_better=True)) == [0.0, 4.0, 4.0], (
        "no logarithm of 0 kimg: between it and the first evaluation, the evaluation counts"
    )


def test_reach_upwards_and_on_a_level() -> None:
    rising = Curve(np.array([1.0, 10.0, 100.0]), np.array([1.0, 2.0, 4.0]))
    found = reach(rising, [4.0, math.sqrt(2), 5.0], lower_is_better=False)
    assert found == pytest.approx([100.0, math.sqrt(10), math.inf])
    level = Curve(np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 2.0]))
    assert list(reach(level, [2.0], lower_is_better=True)) == [2.0]


@pytest.mark.parametrize("lower", [True, False])
def test_a_monotone_curve_only_improves_and_averages_what_goes_up_and_down(lower: bool) -> None:
    values = np.array([8.0, 2.0, 4.5, 4.0, 1.0])
    found = monotone(Curve(KIMG, values if lower else 1 / values), lower_is_better=lower)
    assert (np.diff(found.value) * (1 if lower else -1) <= 1e-12).all()
    middle = (2.0 * 4.5 * 4.0) ** (1 / 3)  # geometric: values are positive
    expected = np.array([8.0, middle, middle, middle, 1.0])
    assert found.value == pytest.approx(expected if lower else 1 / expected)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.booleans())
@settings(deadline=None)
def test_a_monotone_curve_is_the_isotonic_regression(values: list[float], lower: bool) -> None:
    """Against SciPy's, to 1e-9 of the largest value: means are added up in another order."""
    curve = Curve(np.arange(1.0, len(values) + 1), np.array([*values[:-1], min(values[-1], -1.0)]))
    expected = isotonic_regression(curve.value, increasing=not lower).x
    found = monotone(curve, lower_is_better=lower).value
    assert found == pytest.approx(expected, abs=1e-9 * np.abs(curve.value).max())


def test_a_monotone_curve_is_left_alone_and_negative_values_average_as_they_are() -> None:
    assert monotone(power_law(), lower_is_better=True).value == pytest.approx(power_law().value)
    signed = monotone(Curve(KIMG, np.array([2.0, 0.0, 1.0, -1.0, -1.0])), lower_is_better=True)
    assert signed.value == pytest.approx([2.0, 0.5, 0.5, -1.0, -1.0])


def plateaus(noises: tuple[float, float], seeds: int, rng: np.random.Generator) -> list[Pair]:
    """Pairs of curves with the same level, which fall and then stay; one may be noisier."""
    kimg = np.geomspace(1, 64, 13)
    level = 3 + 30 * kimg**-1.2
    return [
        Pair(*(Curve(kimg, level * np.exp(noise * rng.standard_normal(13))) for noise in noises))
        for _ in range(seeds)
    ]


def sooner(pairs: list[Pair], *, smooth: bool) -> Floats:
    """By how much (log) the noisier curve is there sooner than the baseline, by pair."""

    def best(curve: Curve) -> Curve:
        if smooth:
            return monotone(curve, lower_is_better=True)
        return Curve(curve.kimg, np.minimum.accumulate(curve.value))

    taken = [Pair(*map(best, pair)) for pair in pairs]
    ends = target_range(taken, lower_is_better=True)
    assert ends is not None
    times = [
        [mean_time(reach(curve, targets_between(*ends), lower_is_better=True)) for curve in pair]
        for pair in taken
    ]
    return np.array([math.log(base / cell) for base, cell in times])


def test_a_noisier_plateau_does_not_get_there_sooner() -> None:
    """Five times the noise: by its best value so far it wins by luck, by its monotone curve it does not."""
    rng = np.random.default_rng(21)
    worlds = [plateaus((0.02, 0.1), 8, rng) for _ in range(200)]
    claims = {}
    for smooth in (True, False):
        found = [sooner(pairs, smooth=smooth) for pairs in worlds]
        claims[smooth] = np.mean([d.mean() > 0 and sign_flip_p(d) < 0.05 for d in found])
    assert claims[False] > 0.08
    assert claims[True] <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 200)


def test_the_target_is_what_half_of_the_baselines_trials_reach() -> None:
    ends = [5.0, 3.0, 4.0, 6.0]
    curves = [Curve(KIMG, np.linspace(9.0, end, 5)) for end in ends]
    target = primary_target(curves, lower_is_better=True)
    assert target == 5.0
    reached = [reach(c, [target], lower_is_better=True)[0] < math.inf for c in curves]
    assert sum(reached) == 3
    rising = [Curve(KIMG, np.linspace(0.1, end / 10, 5)) for end in ends]
    assert primary_target(rising, lower_is_better=False) == 0.4
    assert primary_target(curves[:1], lower_is_better=True) == 5.0


def test_targets_go_from_the_middle_of_the_budget_to_what_all_reach() -> None:
    fast, slow = power_law(2.0), power_law(0.9)
    ends = target_range([Pair(power_law(), fast), Pair(power_law(), slow)], lower_is_better=True)
    middle = 100 * math.sqrt(10 * 50) ** -0.8
    assert ends is not None
    # between evaluations the middle is read off straight lines: within the bend of the curve
    assert ends[0] == pytest.approx(middle, rel=0.02)
    assert ends[1] == slow.value[-1]
    targets = targets_between(*ends)
    assert (targets[0], targets[-1]) == ends
    assert np.allclose(np.diff(np.log(targets)), np.diff(np.log(targets))[0])
    assert np.allclose(np.diff(targets_between(1.0, -1.0)), -2 / 48)


def test_a_cell_that_does_not_come_that_far_is_compared_over_what_it_reaches() -> None:
    slow = power_law(0.3)
    ends = target_range([Pair(power_law(), slow)], lower_is_better=True)
    assert ends == pytest.approx((power_law().value[0], slow.value[-1]))
    never = Curve(KIMG, np.full(5, 1000.0))
    assert target_range([Pair(power_law(), never)], lower_is_better=True) is None
    assert target_range([], lower_is_better=True) is None


@pytest.mark.parametrize("speed", [0.7, 1.0, 1.3])
def test_speed_up_is_found_at_every_target(speed: float) -> None:
    found = lines({seed: Pair(power_law(), power_law(speed)) for seed in range(3)})
    assert found is not None
    assert found.mean is not None
    assert found.mean.ratios == pytest.approx([speed] * len(found.mean.ratios), rel=1e-9)
    assert found.mean.targets[0] > found.mean.targets[-1], "easy to hard"
    assert (found.slowest, found.fastest) == pytest.approx((speed, speed))
    assert (found.easy, found.hard) == (found.mean.targets[0], found.mean.targets[-1])
    assert (found.seeds, found.missed) == ((0, 1, 2), 0)


def test_speed_up_upwards() -> None:
    rising = {0: Pair(*(Curve(KIMG, 1 - 3 / (KIMG * s)) for s in (1.0, 1.25)))}
    found = lines(rising, lower=False)
    assert found is not None
    assert found.mean is not None
    assert found.mean.targets[0] < found.mean.targets[-1]
    assert found.mean.ratios == pytest.approx([1.25] * 49, rel=0.05)  # no power law in between


def test_the_mean_over_seeds_is_geometric_and_only_where_all_get() -> None:
    targets = np.array([8.0, 4.0, 2.0])
    base = {0: np.array([10.0, 20.0, 40.0]), 1: np.array([10.0, 20.0, math.inf])}
    cell = {0: np.array([5.0, 10.0, 20.0]), 1: np.array([20.0, 40.0, 50.0])}
    found = speed_up(targets, base, cell)
    assert found is not None
    assert [line.ratios for line in found.per_seed] == [(2.0, 2.0, 2.0), (0.5, 0.5)]
    assert found.mean is not None
    assert found.mean.targets == (8.0, 4.0)
    assert found.mean.ratios == pytest.approx((1.0, 1.0))
    assert found.missed == 1


def test_pairs_without_a_common_target_give_no_mean() -> None:
    never = np.full(2, math.inf)
    early, late = np.array([1.0, math.inf]), np.array([math.inf, 2.0])
    found = speed_up(np.array([2.0, 1.0]), {0: early, 1: late}, {0: early, 1: late})
    assert found is not None
    assert found.mean is found.slowest is found.fastest is None
    assert len(found.per_seed) == 2
    assert speed_up(np.array([2.0, 1.0]), {0: early}, {0: never}) is None


def test_the_mean_time_is_geometric_and_never_where_one_target_is_missed() -> None:
    assert mean_time(np.array([2.0, 8.0])) == pytest.approx(4.0)
    assert mean_time(np.array([2.0, math.inf])) == math.inf


def test_mean_level_is_the_area_over_its_width() -> None:
    line = Curve(KIMG, KIMG.copy())
    assert mean_level(line, 10.0, 50.0) == pytest.approx(30.0)
    assert mean_level(line, 15.0, 25.0) == pytest.approx(20.0)
    flat = Curve(KIMG, np.full(5, 4.2))
    assert mean_level(flat, 12.0, 47.0) == pytest.approx(4.2)
