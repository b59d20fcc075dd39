"""Proves: trials are paired by seed, every measure has its numbers, and a bad end is an outcome in each of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from dashboards.verdict.evidence import Curve, Evidence, Trial
from dashboards.verdict.pairing import Pairer, Pairing
from tests.dashboards.verdict.made import KIMG, evidence
from trainer.report import Status


def pairing(made: Evidence, target: float | None = None) -> Pairing:
    return Pairer(made, "a", target).pair("b")


def changed(made: Evidence, cell: str, seed: int, **more: object) -> Evidence:
    trials = tuple(
        dataclasses.replace(t, **more) if (t.cell, t.seed) == (cell, seed) else t  # type: ignore[arg-type]
        for t in made.trials
    )
    return dataclasses.replace(made, trials=trials)


def test_the_four_measures_are_closed_forms() -> None:
    """A cell twice as good everywhere: half the final number and area, sooner by the power of its curve."""
    found = pairing(evidence({"a": [4.0, 5.0], "b": [2.0, 2.5]}, curve=True))
    assert list(found.samples) == ["final", "area", "target", "speed"]
    final, area, target, speed = found.samples.values()
    assert (final.baseline, final.cell) == ({0: 4.0, 1: 5.0}, {0: 2.0, 1: 2.5})
    assert area.cell[0] / area.baseline[0] == pytest.approx(0.5)
    assert target.target == pytest.approx(5.0), "what half of the baseline's trials reach"
    assert target.baseline[1] == pytest.approx(16.0)
    # values fall as kimg^-0.8: a curve of half the level is where the other is 2^(1/0.8) times sooner
    assert target.baseline[1] / target.cell[1] == pytest.approx(2 ** (1 / 0.8), rel=1e-6)
    assert speed.baseline[0] / speed.cell[0] == pytest.approx(2 ** (1 / 0.8), rel=1e-6)
    assert found.speed is not None
    assert found.speed.seeds == (0, 1)
    assert all(sample.ratio for sample in found.samples.values())
    assert not target.differences().max() > 0


@pytest.mark.parametrize("bad", ["diverged", "failed"])
def test_a_bad_end_is_lost_in_every_measure(bad: str) -> None:
    found = pairing(evidence({"a": [4.0, 4.0, 4.0], "b": [2.0, bad, 2.2]}, curve=True))
    assert found.ended == (0, 1, 2)
    for sample in found.samples.values():
        assert sample.lost == (0, 1)
        assert sample.surviving == [0, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_final_number_that_is_none_is_lost_and_the_curve_stays(value: float) -> None:
    made = changed(
        evidence({"a": [4.0], "b": [2.0]}, curve=True), "b", 0, finals={"eval/fid": value}
    )
    found = pairing(made)
    assert found.samples["final"].lost == (0, 1)
    assert found.samples["area"].surviving == [0]


def test_a_curve_with_a_hole_is_lost_and_the_final_number_stays() -> None:
    broken = {"rung/fid": Curve(KIMG, np.array([9.0, np.nan, 4.0, 3.0, 2.0]))}
    made = changed(evidence({"a": [4.0, 4.0], "b": [2.0, 2.0]}, curve=True), "b", 0, curves=broken)
    found = pairing(made)
    assert found.samples["final"].lost == (0, 0)
    assert [found.samples[name].lost for name in ("area", "target", "speed")] == [(0, 1)] * 3


@pytest.mark.parametrize("status", ["running", "waiting", "stopped", None])
def test_what_has_not_ended_is_no_pair_and_nobodys_fault(status: str | None) -> None:
    found = pairing(evidence({"a": [4.0, 5.0], "b": [2.0, status]}, curve=True))
    assert found.ended == (0,)
    assert all(list(sample.cell) == [0] for sample in found.samples.values())


def test_a_target_that_is_never_reached_is_lost() -> None:
    found = pairing(evidence({"a": [4.0, 4.1], "b": [8.0, 3.0]}, curve=True), target=4.2)
    target = found.samples["target"]
    assert target.target == 4.2
    assert target.cell[0] == math.inf
    assert target.lost == (0, 1)
    assert target.surviving == [1]
    nobody = pairing(evidence({"a": [4.0], "b": [8.0]}, curve=True), target=1.0)
    assert np.isnan(nobody.samples["target"].column([0])).all(), "on which both are lost"


def test_neither_a_rival_nor_a_later_seed_moves_the_target() -> None:
    one = evidence({"a": [4.0, 5.0, 9.0], "b": [2.0, 2.0, 2.0]}, curve=True, looks=(2, 3))
    other = evidence({"a": [4.0, 5.0, 1.0], "b": [7.0, 8.0, 9.0]}, curve=True, looks=(2, 3))
    targets = [pairing(made).samples["target"].target for made in (one, other)]
    assert targets == pytest.approx([5.0, 5.0])


def test_seeds_count_in_their_order() -> None:
    made = evidence({"a": [4.0, 5.0, 6.0], "b": [2.0, 2.5, 3.0]}, order=(2, 0, 1))
    assert pairing(made).ended == (2, 0, 1)
    assert list(pairing(made).samples["final"].cell) == [2, 0, 1]


def test_without_curves_there_is_the_final_metric_alone() -> None:
    assert list(pairing(evidence({"a": [4.0], "b": [2.0]})).samples) == ["final"]
    short = {"rung/fid": Curve(KIMG[:1], np.array([9.0]))}
    made = changed(evidence({"a": [4.0], "b": [2.0]}, curve=True), "b", 0, curves=short)
    assert list(pairing(made).samples) == ["final"], "one point is no curve"
    nothing = pairing(evidence({"a": [4.0], "b": ["running"]}))
    assert (nothing.ended, nothing.samples) == ((), {})


def test_numbers_that_are_not_all_positive_are_compared_as_differences() -> None:
    made = evidence({"a": [0.1, -0.1], "b": [0.3, 0.2]})
    final = pairing(made).samples["final"]
    assert not final.ratio
    assert final.differences() == pytest.approx([0.2, 0.3])
    kid = pairing(evidence({"a": [0.1, 0.2], "b": [0.3, 0.2]}, metric="eval/kid"))
    assert not kid.samples["final"].ratio, "KID never is"


def test_one_number_that_is_not_positive_puts_all_cells_on_the_same_scale() -> None:
    """Whichever cell and seed it is of, the baseline or none that is compared: one report, one unit."""
    numbers = {"a": [4.0, 5.0], "b": [2.0, 2.5], "c": [3.0, 3.5]}
    for cell in numbers:
        for bad in (0.0, -0.1):
            cells = numbers | {cell: [numbers[cell][0], bad]}
            pairer = Pairer(evidence(cells), "a")
            finals = {other: pairer.pair(other).samples["final"] for other in "bc"}
            assert [final.ratio for final in finals.values()] == [False, False]
            other = "c" if cell == "b" else "b"
            difference = cells[other][0] - cells["a"][0]
            assert finals[other].differences()[0] == pytest.approx(difference)
    odd = {"rung/fid": Curve(KIMG, np.array([9.0, 7.0, 4.0, 3.0, 0.0]))}
    pairer = Pairer(changed(evidence(numbers, curve=True), "c", 1, curves=odd), "a")
    for other in "bc":
        samples = pairer.pair(other).samples
        assert (samples["final"].ratio, samples["area"].ratio) == (True, False)
        assert samples["speed"].ratio, "kimg are above 0 whatever the curve is"
    lost = Pairer(evidence(numbers | {"c": [math.nan, 3.5]}), "a")
    assert lost.pair("b").samples["final"].ratio, "a lost one has no number"


def test_the_area_is_over_what_both_curves_cover() -> None:
    made = evidence({"a": [4.0], "b": [4.0]}, curve=True)
    longer = Curve(np.append(KIMG, 32.0), np.append(4.0 / 3 * np.ones(5), 100.0))
    found = pairing(changed(made, "b", 0, curves={"rung/fid": longer}))
    assert found.samples["area"].cell[0] == pytest.approx(4 / 3)


def test_trials_need_nothing_else() -> None:
    trials = tuple(Trial(c, 0, Status.FINISHED, finals={"eval/fid": 1.0}) for c in "ab")
    made = dataclasses.replace(evidence({"a": [], "b": []}), trials=trials, order=())
    assert pairing(made).ended == (0,)
