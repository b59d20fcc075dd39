"""Proves: what more seeds are said to find they find as often as said, by simulation of the tests themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dashboards.verdict.engine import Engine, Key
from dashboards.verdict.looks import Family
from dashboards.verdict.planning import (
    Noise,
    decision_probability,
    detectable,
    expected,
    pooled,
)
from dashboards.verdict.samples import Sample
from dashboards.verdict.statistics import ALPHA, sign_flip_p
from dashboards.verdict.values import Name


@pytest.mark.parametrize("n", [6, 8, 10, 12, 20])
def test_the_detectable_effect_is_found_in_four_of_five(n: int) -> None:
    rng = np.random.default_rng(n)
    found = [sign_flip_p(rng.normal(detectable(n), 1, n)) < ALPHA for _ in range(400)]
    # 3 standard errors at 400 draws, and .03 for what a t test has more power than sign flips
    assert abs(float(np.mean(found)) - 0.8) < 0.03 + 3 * math.sqrt(0.8 * 0.2 / 400)


@pytest.mark.parametrize("n", [6, 8, 12])
def test_among_ten_rivals_it_is_found_as_often_by_the_engine(n: int) -> None:
    """One of ten differs, all share the baseline's noise."""
    effect, count = detectable(n, 10), 300
    found = _share_found(n, effect, count)
    # 3 standard errors at 300 experiments, .03: for that of the promise (2,000 simulations, and a limit
    # with 7 % of its level of .05), and for step-down tests, which go on from what the largest of ten gives
    tolerance = 0.03 + 3 * math.sqrt(0.8 * 0.2 / count)
    assert abs(found - 0.8) < tolerance
    assert _share_found(n, detectable(n), count) < 0.8 - tolerance, "one rival's would not do"


def _share_found(n: int, effect: float, count: int) -> float:
    rng = np.random.default_rng(n)
    found = 0
    for _ in range(count):
        trials = rng.standard_normal((n, 11)) / math.sqrt(2)
        trials[:, 1] += effect
        samples: dict[str, dict[Name, Sample]] = {
            f"c{place}": {
                "final": Sample(
                    "eval/kid",
                    True,
                    False,
                    dict(enumerate(trials[:, 0].tolist())),
                    dict(enumerate(trials[:, place].tolist())),
                )
            }
            for place in range(1, 11)
        }
        margins: dict[Key, float | None] = dict.fromkeys((cell, "final") for cell in samples)
        ended = dict.fromkeys(samples, range(n))
        decisions = Engine(samples, ended, range(n), (n,), margins).run()
        found += decisions["c1", "final"].word == "WORSE"
    return found / count


def test_more_rivals_need_a_larger_difference_and_cells_that_were_stopped_a_smaller_error() -> None:
    by_rivals = [detectable(10, rivals) for rivals in (1, 2, 5, 10, 50)]
    assert by_rivals == sorted(set(by_rivals))
    assert detectable(10, 80) == by_rivals[-1], "more are simulated as so many"
    assert detectable(10, 2, ALPHA / 2) > detectable(10, 2)
    assert detectable(6, 1, ALPHA / 2) == math.inf, "p of six is never below .031"


def test_more_seeds_detect_less_and_five_nothing() -> None:
    assert detectable(5) == detectable(1) == math.inf
    effects = [detectable(n) for n in (6, 7, 9, 10, 12, 24, 100)]
    assert effects == sorted(effects, reverse=True)
    by_power = [detectable(12, power=power) for power in (0.5, 0.8, 0.95)]
    assert by_power == sorted(by_power)
    # a t test's own: 2.8 standard errors and a little for the unknown noise
    assert detectable(100) == pytest.approx(2.8 / 10, rel=0.05)


def test_noise_is_what_all_cells_have_in_common() -> None:
    one, other = np.array([0.0, 2.0]), np.array([5.0, 6.0, 7.0])
    noise = pooled([one, other, np.array([9.0])])
    assert noise is not None
    assert noise.sd == pytest.approx(
        math.sqrt((2.0 + 2.0) / 3)
    )  # squares about each cell's own mean
    assert noise.freedom == 3
    assert pooled([np.array([9.0])]) is None
    assert pooled([]) is None


def test_a_decision_is_more_probable_with_more_seeds_and_a_larger_difference() -> None:
    noise = Noise(1.0, 20)

    def chance(mean: float, total: int, margin: float | None = None) -> float:
        need = detectable(total, power=0.5)
        return decision_probability(np.full(6, mean), noise, total, margin, need)

    by_seeds = [chance(0.6, total) for total in (8, 12, 24, 48, 400)]
    assert by_seeds == sorted(by_seeds)
    assert by_seeds[-1] > 0.85
    by_size = [chance(mean, 12) for mean in (0.0, 0.3, 0.6, 1.2, 3.0)]
    assert by_size == sorted(by_size)
    assert chance(-0.6, 12) == pytest.approx(chance(0.6, 12))
    assert all(0 <= p <= 1 for p in (*by_seeds, *by_size))
    assert chance(0.0, 60, margin=1.0) > 0.9, "that it is the same is a decision, too"
    assert chance(0.0, 60, margin=1.0) > chance(0.0, 60, margin=0.5) >= chance(0.0, 60)


def test_no_decision_where_none_can_be_and_a_known_one_where_nothing_is_to_come() -> None:
    noise = Noise(1.0, 5)
    assert decision_probability(np.ones(3), noise, 5, None, detectable(5, power=0.5)) == 0
    assert decision_probability(np.ones(3), Noise(0.0, 5), 6, None, 1.0) == 1
    assert decision_probability(np.full(6, 2.0), noise, 6, None, 1.5) == 1
    assert decision_probability(np.full(6, 1.0), noise, 6, None, 1.5) == 0
    assert decision_probability(np.full(6, 0.1), noise, 6, 2.0, 1.5) == 1, "within the margin"


@pytest.mark.parametrize(("mean", "total"), [(0.5, 12), (0.9, 9), (0.1, 24)])
def test_the_predicted_probability_is_that_of_the_test(mean: float, total: int) -> None:
    """Simulate what may come: the true mean from what was seen, then the seeds that are missing."""
    rng = np.random.default_rng(total)
    seen = rng.normal(0, 1, 6)
    seen = (seen - seen.mean()) / seen.std(ddof=1) + mean
    decided = 0
    for _ in range(400):
        truth = mean + rng.standard_t(5) / math.sqrt(6)
        decided += sign_flip_p(np.append(seen, rng.normal(truth, 1, total - 6))) < ALPHA
    said = decision_probability(seen, Noise(1.0, 5), total, None, detectable(total, power=0.5))
    # 3 standard errors, and what the noise of the whole sample moves the threshold
    assert abs(said - decided / 400) < 0.06 + 3 * math.sqrt(0.25 / 400)


@pytest.mark.parametrize(("effect", "rivals"), [(1.0, 2), (2.0, 1)])
def test_what_a_design_comes_to_is_what_its_looks_come_to(effect: float, rivals: int) -> None:
    looks = (6, 9, 12)
    said = expected(looks, rivals, effect)
    rng = np.random.default_rng(rivals)
    at, found = [], 0
    for _ in range(200):
        trials = rng.standard_normal((12, rivals + 1)) / math.sqrt(2)
        columns = trials[:, 1:] - trials[:, :1] + effect
        family = Family(looks, two_sided=True)
        when = np.full(rivals, 0)
        for n in looks:
            p = family.look(columns[:n])
            when[(when == 0) & (p < ALPHA)] = n
            columns[:, when > 0] = np.nan
        found += int((when > 0).sum())
        at += [n or 12 for n in when]
    count = 200 * rivals
    assert said.effect == effect
    assert rivals * said.seeds < said.trials <= (rivals + 1) * 12, "the baseline's, too"
    # one threshold for all against step-down, and 3 standard errors (rivals share the baseline)
    assert abs(said.finds - found / count) < 0.06 + 3 * math.sqrt(0.25 / count)
    assert said.seeds == pytest.approx(np.mean(at), abs=0.3 + 3 * np.std(at) / math.sqrt(count))


def test_a_design_without_a_difference_finds_one_in_five_percent() -> None:
    said = expected((6, 9, 12), 1, 0.0)
    assert said.finds <= ALPHA + 1e-9
    assert said.finds > 0.6 * ALPHA
    assert said.seeds > 11.5
    assert expected((3, 5), 1, 3.0).finds == 0, "five seeds decide nothing"
    assert expected((6, 12), 3, 4.0).seeds < 6.5
