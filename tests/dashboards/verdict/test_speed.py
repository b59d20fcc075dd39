"""Proves: a curve that is s times as fast is found to be s times as fast, at every target; areas are areas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dashboards.verdict.evidence import Curve
from dashboards.verdict.speed import Pair, mean_level, reach, reachable, speed_up

KIMG = np.array([10.0, 20.0, 30.0, 40.0, 50.0])


def power_law(speed: float = 1.0, kimg: np.ndarray = KIMG) -> Curve:
    return Curve(kimg, 100 * (kimg * speed) ** -0.8)


def test_reach_is_exact_on_a_power_law() -> None:
    curve = power_law()
    for kimg in (10.0, 12.3, 27.0, 50.0):
        target = 100 * kimg**-0.8
        assert reach(curve, target, lower_is_better=True) == pytest.approx(kimg, rel=1e-12)


def test_reach_is_censored_at_both_ends() -> None:
    curve = power_law()
    assert reach(curve, 1e-3, lower_is_better=True) == math.inf
    assert reach(curve, 99.0, lower_is_better=True) == 10.0


def test_reach_takes_the_first_time_and_crosses_zero() -> None:
    bumpy = Curve(np.array([1.0, 2.0, 4.0, 8.0]), np.array([3.0, 1.0, 2.0, 0.5]))
    assert reach(bumpy, 1.0, lower_is_better=True) == 2.0
    signed = Curve(np.array([1.0, 4.0]), np.array([1.0, -1.0]))  # as KID may be
    assert reach(signed, 0.0, lower_is_better=True) == pytest.approx(2.0)


def test_reach_upwards() -> None:
    rising = Curve(np.array([1.0, 10.0, 100.0]), np.array([1.0, 2.0, 4.0]))
    assert reach(rising, 4.0, lower_is_better=False) == 100.0
    assert reach(rising, math.sqrt(2), lower_is_better=False) == pytest.approx(math.sqrt(10))
    assert reach(rising, 5.0, lower_is_better=False) == math.inf


@pytest.mark.parametrize("speed", [0.7, 1.0, 1.3])
def test_speed_up_is_found_at_every_target(speed: float) -> None:
    pairs = {seed: Pair(power_law(), power_law(speed)) for seed in range(3)}
    found = speed_up(pairs, lower_is_better=True)
    assert found is not None
    assert found.mean is not None
    assert found.overall == pytest.approx(speed, rel=1e-9)
    assert found.mean.ratios == pytest.approx([speed] * len(found.mean.ratios), rel=1e-9)
    assert found.mean.targets[0] > found.mean.targets[-1]  # easy to hard
    assert found.interval.low == pytest.approx(speed, rel=1e-9)


def test_speed_up_swaps_to_its_inverse() -> None:
    a, b = power_law(), Curve(KIMG, np.array([30.0, 9.0, 8.0, 5.0, 4.0]))
    one = speed_up({0: Pair(a, b)}, lower_is_better=True)
    other = speed_up({0: Pair(b, a)}, lower_is_better=True)
    assert one is not None
    assert other is not None
    assert one.overall is not None
    assert other.overall == pytest.approx(1 / one.overall)
    assert one.interval.known is False


def test_geometric_mean_over_seeds() -> None:
    pairs = {0: Pair(power_law(), power_law(2.0)), 1: Pair(power_law(), power_law(0.5))}
    found = speed_up(pairs, lower_is_better=True)
    assert found is not None
    assert found.overall == pytest.approx(1.0)


def test_targets_are_only_those_both_reach() -> None:
    good, bad = power_law(3.0), power_law()
    assert reachable(Pair(bad, good), lower_is_better=True) == pytest.approx(
        (good.value[0], bad.value[-1])
    )
    never = Curve(KIMG, np.full(5, 1000.0))
    assert reachable(Pair(never, good), lower_is_better=True) is None
    assert speed_up({0: Pair(never, good)}, lower_is_better=True) is None


def test_pairs_without_a_common_target_give_no_mean() -> None:
    low = Curve(KIMG, np.linspace(2.0, 1.0, 5))
    high = Curve(KIMG, np.linspace(9.0, 8.0, 5))
    found = speed_up({0: Pair(low, low), 1: Pair(high, high)}, lower_is_better=True)
    assert found is not None
    assert found.overall is None
    assert len(found.per_seed) == 2


def test_mean_level_is_the_area_over_its_width() -> None:
    line = Curve(KIMG, KIMG.copy())
    assert mean_level(line, 10.0, 50.0) == pytest.approx(30.0)
    assert mean_level(line, 15.0, 25.0) == pytest.approx(20.0)
    flat = Curve(KIMG, np.full(5, 4.2))
    assert mean_level(flat, 12.0, 47.0) == pytest.approx(4.2)
