"""Halving, racing and median keep the best cell for less: on recorded curves and on simulated ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.verdict.screening import chance, field, held
from service.policy import Design, Halving, Median, PlanPolicy, Racing, Standing
from service.policy.rungs import rungs
from tests.service.policy.simulated import Curves, Outcome, design, run
from trainer.report import Failure, Status
from trainer.trial import TrialSpec

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
POINTS = tuple(round(share * 76_800) for share in RECORDED["shares"])
FINAL = np.array(RECORDED["final"])
BEST = f"c{FINAL[:, -1].argmin()}"


def recorded(policy: PlanPolicy, order: int, what: str = "cheap", slots: int = 1) -> Outcome:
    """The recorded cells in a random order, compared on the way under one of the two protocols."""
    cells = [f"c{i}" for i in range(len(FINAL))]
    random.Random(order).shuffle(cells)
    curves = {(f"c{i}", 0): values for i, values in enumerate(RECORDED[what])}
    ends = {(f"c{i}", 0): values for i, values in enumerate(RECORDED["final"])}
    return run(policy, design(cells, 1, POINTS), curves, ends, slots)


@pytest.mark.parametrize("what", ["cheap", "final"])
@pytest.mark.parametrize(
    ("policy", "most"),
    [
        (Halving(), 0.32),
        (Halving(reduction=4, at=(1 / 16, 1 / 4)), 0.20),
        (Halving(reduction=2, at=(1 / 16, 1 / 8, 1 / 4, 1 / 2)), 0.22),
        (Median(), 0.70),
        (Racing(), 0.97),
    ],
    ids=["halving", "halving-4", "halving-2", "median", "racing"],
)
def test_the_best_recorded_cell_is_kept_at_a_part_of_the_price(
    policy: PlanPolicy, most: float, what: str
) -> None:
    """Over 200 orders: best kept in all, cost .31, .17, .20, .60 and (40 orders) .89."""
    outcomes = [recorded(policy, order, what) for order in range(6)]
    for outcome in outcomes:
        assert BEST in outcome.finished
        assert outcome.finished | set(outcome.stopped) == {f"c{i}" for i in range(24)}
    assert np.mean([outcome.cost for outcome in outcomes]) < most


def test_halving_beside_others_finds_the_same_as_one_after_the_other() -> None:
    outcome = recorded(Halving(), 0, slots=5)
    assert BEST in outcome.finished
    assert outcome.cost < 0.4


def world(seed: int, cells: int, seeds: int, rho: float, noise: float) -> tuple[Curves, str]:
    """Log-normal cells whose true effects at rung and end have correlation `rho`; the best at the end."""
    rng = np.random.default_rng(seed)
    end = rng.standard_normal(cells)
    early = rho * end + np.sqrt(1 - rho**2) * rng.standard_normal(cells)
    shared = rng.standard_normal(seeds)
    curves = {}
    for c in range(cells):
        for s in range(seeds):
            jitter = noise * rng.standard_normal(4) + shared[s]
            levels = np.array([2.0 + early[c], 1.5 + early[c], 1.0 + early[c], end[c]])
            curves[f"c{c}", s] = list(np.exp(0.2 * (levels + jitter)))
    return curves, f"c{end.argmin()}"


@pytest.mark.parametrize(("rho", "noise"), [(0.9, 0.3), (0.7, 1.0), (0.0, 0.3)])
def test_racing_loses_the_best_cell_no_more_often_than_it_says(rho: float, noise: float) -> None:
    """Even where the rung says nothing of the end, for then it learns so: at most 10 %."""
    lost, cost = [], []
    for seed in range(40):
        curves, best = world(seed, 8, 2, rho, noise)
        outcome = run(Racing(), design([f"c{i}" for i in range(8)], 2, (1, 2, 4, 8)), curves)
        lost.append(best in outcome.stopped)
        cost.append(outcome.cost)
    assert np.mean(lost) <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 40)
    assert np.mean(cost) <= 1.0


def test_racing_stops_what_cannot_win_and_says_by_what() -> None:
    curves: dict[tuple[str, int], list[float]] = {}
    for s in range(2):
        for i, level in enumerate((1.0, 1.05, 1.1, 0.95, 1.02, 9.0)):
            curves[f"c{i}", s] = [4 * level, 3 * level, 2 * level, level * (1 + 0.01 * s)]
    outcome = run(Racing(), design([f"c{i}" for i in range(6)], 2, (1, 2, 4, 8)), curves)
    assert list(outcome.stopped) == ["c5"]
    assert (
        "rung/fid 36 over 2 seeds at 0.001 of 0.008 kimg leaves it a chance of"
        in outcome.stopped["c5"]
    )
    assert "to end better than `c3`" in outcome.stopped["c5"]


def test_what_a_rung_says_of_the_end_is_calibrated() -> None:
    """Where the model holds, of cells given a chance of p to end better, p do."""
    rng = np.random.default_rng(0)
    given, came = [], []
    for _ in range(400):
        cells, seeds, rho = 12, 3, 0.8
        early = rng.standard_normal(cells)
        end = rho * early + np.sqrt(1 - rho**2) * rng.standard_normal(cells)
        values = {f"{c}": early[c] + 0.5 * rng.standard_normal(seeds) for c in range(cells)}
        seen = field(values)
        assert seen is not None
        for c in range(1, cells):
            given.append(chance(seen, f"{c}", "0", rho))
            came.append(end[c] < end[0])
    chances, ends = np.array(given), np.array(came)
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5)):
        chosen = (chances >= low) & (chances < high)
        assert chosen.sum() > 200
        assert ends[chosen].mean() <= chances[chosen].mean() + 0.035


def test_before_anything_has_finished_it_is_cautious_and_then_it_learns() -> None:
    nothing = np.array([])
    many = np.arange(20.0)
    assert 0.4 < held(nothing, nothing) < 0.6
    assert held(many, many) > 0.95
    assert held(many, -many) == 0.0
    assert held(many, np.random.default_rng(1).permutation(many)) < 0.4
    assert held(np.arange(3.0), -np.arange(3.0)) == held(nothing, nothing), "three tell nothing"


def test_the_baseline_is_never_stopped_and_takes_nobodys_place() -> None:
    cells = ["base", "a", "b", "c"]
    curves = {(c, 0): [v, v, v, v] for c, v in zip(cells, (0.1, 3.0, 2.0, 1.0), strict=True)}
    for policy in (Halving(), Median(least=1), Racing()):
        outcome = run(policy, design(cells, 1, (1, 2, 4, 8), baseline="base"), curves)
        assert "base" in outcome.finished
    outcome = run(Halving(), design(cells, 1, (1, 2, 4, 8), baseline="base"), curves)
    assert outcome.finished == {"base", "c"}
    worst = {**curves, ("base", 0): [9.0] * 4}
    for policy in (Halving(), Median(least=1), Racing()):
        outcome = run(policy, design(cells, 1, (1, 2, 4, 8), baseline="base"), worst)
        assert "base" in outcome.finished


def test_seeds_of_a_cell_go_together_and_what_diverged_is_last() -> None:
    cells = ["a", "b", "c"]
    curves = {
        (c, s): [v + s, v + s, v + s, v + s]
        for c, v in zip(cells, (1.0, 2.0, 3.0), strict=True)
        for s in range(3)
    }
    curves["a", 2] = [np.inf] * 4
    outcome = run(Halving(), design(cells, 3, (1, 2, 4, 8)), curves)
    assert outcome.finished == {"b"}
    assert outcome.stopped["a"].startswith(
        "it diverged before 0.001 kimg and is not among the best"
    )
    assert [c for c, _, until in outcome.handed if until == 1] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def test_a_cell_whose_trials_all_broke_holds_nobody_up_and_one_broken_seed_does_not_count() -> None:
    seen = design(["a", "b", "c"], 2, (1, 2, 4, 8))
    broken = Standing(Status.FAILED, failure=Failure("broke", "now"))
    records = at_first_rung(seen, {"a": 1.0, "b": 2.0})
    assert Halving().stops(seen, records) == {}, "c is still to come"
    records |= {("c", 0): broken, ("c", 1): broken}
    assert set(Halving().stops(seen, records)) == {"b"}
    records = at_first_rung(seen, {"a": 1.0, "b": 2.0, "c": 3.0}) | {("c", 1): broken}
    assert set(Halving().stops(seen, records)) == {"b", "c"}


def at_first_rung(seen: Design, values: dict[str, float]) -> dict[tuple[str, int], Standing]:
    curves = {(c, s): [v, v, v, v] for c, v in values.items() for s in seen.seeds}
    records = dict.fromkeys(((c, s) for s in seen.seeds for c in seen.cells), Standing())
    from tests.service.policy.simulated import _further

    for pair in curves:
        records[pair] = _further(Standing(), pair, (1, 2, 4, 8), curves, curves)
    return records


@pytest.mark.parametrize(
    ("points", "shares", "found"),
    [
        ((1, 2, 4, 8), (1 / 9, 1 / 3), (1, 4)),
        ((2, 4, 6, 8, 10, 12), (1 / 8, 1 / 4, 1 / 2), (2, 4, 6)),
        ((6, 12), (1 / 9, 1 / 3), (6,)),
        ((12,), (1 / 3,), ()),
    ],
)
def test_rungs_are_evaluations_before_the_end(
    points: tuple[int, ...], shares: tuple[float, ...], found: tuple[int, ...]
) -> None:
    assert rungs(design(["a"], 1, points), shares) == found


@pytest.mark.parametrize("kimg", [28.8, 19.2, 57.6])
def test_an_evaluation_that_was_rounded_down_to_a_batch_stands_at_its_share(kimg: float) -> None:
    """A sixteenth of 225 steps is evaluated at 14, and no rung is at an eighth for that."""
    trial = TrialSpec.from_yaml("digits", [f"train.kimg={kimg}"])
    seen = Design({"a": trial}, (0,), design(["a"], 1, (8,)).compare)
    found = rungs(seen, (1 / 16, 1 / 4))
    assert found == (trial.evaluation_points()[1], trial.evaluation_points()[3])


def test_rungs_are_at_images_that_all_cells_are_measured_at() -> None:
    both: Any = design(["a"], 1, (2, 4, 8)).cells | design(["b"], 1, (3, 4, 6, 8)).cells
    seen = Design(both, (0,), design(["a"], 1, (8,)).compare)
    assert rungs(seen, (0.1, 0.5, 0.9)) == (4,)
