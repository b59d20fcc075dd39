"""Proves what the scoreboard's rows (`make bench`) take for granted: their gates hold, and their ratios are ratios."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from pathlib import Path

import pytest

from service.settings import Settings
from tests.benchmarks import (
    comparing,
    evaluation_share,
    frechet,
    growth,
    host,
    image_input,
    inception_features,
    orchestration,
    page_of_results,
    sampling,
)
from tests.benchmarks.__main__ import BENCHMARKS
from tests.benchmarks.side_by_side import Ratio, Spent, Unit, compared, gate, installed
from tests.benchmarks.trained_alike import HOST_BOUND, Inside, Ours
from trainer.evaluation.metric import Reference
from trainer.trial import TrialSpec


def nothing(_line: str) -> None:
    """Nobody reads it."""


def test_a_gate_that_does_not_hold_stops_the_row() -> None:
    gate(nothing, "error", 1.0, 1.0)
    with pytest.raises(AssertionError, match="error: 2, and at most 1 is allowed"):
        gate(nothing, "error", 2.0, 1.0)


def test_a_ratio_is_the_median_of_rounds() -> None:
    theirs = [Spent(cpu, 1.0) for cpu in (2.0, 9.0, 4.0)]
    assert Ratio.of(theirs, [Spent(1.0, 1.0)] * 3) == Ratio(4.0, 2.0, 9.0)


def test_all_take_turns_and_who_is_not_installed_is_named() -> None:
    order: list[str] = []

    def burn(name: str, times: int) -> float:
        order.append(name)
        sum(i * i for i in range(20_000 * times))
        return 1.0

    found = compared(
        3, "squares", lambda: burn("ours", 1),
        {"peer": (lambda: burn("peer", 10), 2.0), "absent": (None, 2.0)}, Unit("s", 1.0), rounds=2,
    )  # fmt: skip
    assert order == ["ours", "peer"] * 3, "the first round warms up"
    there, absent = found
    assert there.ratio is not None
    assert there.ratio.median > 2.0
    assert there.reached
    assert str(absent).endswith("absent: not installed")


def test_a_section_is_written_again_in_its_place() -> None:
    order = ["a", "b", "c"]
    text = page_of_results.put("", "c", "## c\n\nthree\n", order)
    text = page_of_results.put(text, "a", "## a\n\none\n", order)
    text = page_of_results.put(text, "c", "## c\n\nnew\n", order)
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## a", "## c"]
    assert "new" in text
    assert "three" not in text
    assert text.startswith(page_of_results.HEAD)


def test_every_row_has_its_number_once() -> None:
    rows = [row for row in BENCHMARKS.values() if row is not None]
    assert len(set(rows)) == len(rows)


def test_orchestration_is_what_trials_do_not_take_themselves(tmp_path: Path) -> None:
    """Two slots, from second 5 to 15, hold trials that took 6 and 8 seconds of their own: 6 are left, 3 each."""
    for seed, (started, took) in enumerate([(105.0, 6.0), (106.0, 8.0)]):
        place = tmp_path / str(seed)
        place.mkdir()
        (place / "trial.json").write_text(json.dumps({"seed": seed}))
        own = {"started_s": started, "seconds": took - 1.0, "eval_seconds": 1.0}
        (place / "result.json").write_text(json.dumps({**own, "metrics": {"eval/fid": 2.0}}))
        os.utime(place / "result.json", (115.0, 115.0))
    family = orchestration.Family(100.0, {1: [(101.0, 1.0), (106.0, 3.0)], 2: [(104.0, 0.5)]})
    found = orchestration.measured(100.0, 116.5, family, tmp_path, slots=2)
    assert found == orchestration.Measured(5.0, 1.5, 3.0, 1.5, {0: 2.0, 1: 2.0})


def test_however_a_trial_is_started_its_numbers_are_the_same() -> None:
    def run(shift: float) -> orchestration.Measured:
        numbers = {seed: seed + shift for seed in range(orchestration.SEEDS)}
        return orchestration.Measured(4.0, 9.0, 0.5, 1.0, numbers)

    orchestration.same_numbers(nothing, {"ours": run(0.0), "stock": run(0.0)})
    with pytest.raises(AssertionError, match="stock, its numbers beside those of the others"):
        orchestration.same_numbers(nothing, {"ours": run(0.0), "stock": run(1e-9)})
    slow = dataclasses.replace(run(0.0), beyond_s=5.0, first_step_cpu_s=36.0)
    runs = {case: [run(0.0) if "diffsweep" in case else slow] for case in orchestration.CASES}
    *_, shares, first, slots, end = orchestration.lines(runs)
    assert "0.10 [0.10 .. 0.10]" in shares
    assert "4.00 [4.00 .. 4.00] times ours" in shares
    assert not any("not reached" in line for line in (first, slots, end))


def test_input_is_the_same_images_for_all(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    image_input.folder_of_images(tmp_path / "images", 2 * image_input.BATCH)
    places = (tmp_path / "images", tmp_path / "cache")
    places[1].mkdir()
    epochs = {how: image_input.ours(*places, how) for how in image_input.GOALS}
    epochs |= {peer: make(*places) for peer, make in image_input.PEERS.items()}
    image_input.same_images(nothing, epochs)


@pytest.mark.parametrize("number", range(3))
def test_the_frechet_distance_is_exact_and_the_peers_are_near(number: int) -> None:
    """In fewer dimensions than it is timed in; peers are off by roots of roundings where images are few."""
    case = frechet.cases(width=256, many=400, few=120)[number]()
    frechet.exact_enough(nothing, case, Reference.of_moments(case.real))
    for peer in filter(None, frechet.peers().values()):
        assert peer(*frechet.arrays(case)) == pytest.approx(case.exact, abs=1e-3)


@pytest.mark.slow
def test_inceptions_features_are_torch_fidelitys_and_half_precision_keeps_the_distance() -> None:
    with inception_features.given(12) as (weights, images, pixels):
        inception_features.agreement(nothing, weights, images, pixels)


@pytest.mark.skipif(not installed("accelerate"), reason="a peer of the benchmarks: bench")
def test_the_loss_curve_is_that_of_diffusers_loop() -> None:
    with host.folder(dataclasses.replace(HOST_BOUND, count=64)) as (images, place):
        apart = host.curves(HOST_BOUND, images, place, steps=4)
    assert apart < host.MOST_APART


def test_what_a_step_costs_beside_its_network_is_told_apart() -> None:
    """What the trainer adds to its network and autograd is a twentieth of a step's operations."""
    with host.folder(dataclasses.replace(HOST_BOUND, count=64)) as (images, place):
        ours = Ours(HOST_BOUND.trial(images), place)
        inside = Inside(ours)
        ours.steps(3)
        assert inside.seconds > 0.0
        every, beside = host.calls(ours, inside)
        assert host.outside(ours, inside)() > 0.0
    assert beside < 0.06 * every


@pytest.mark.slow
def test_samples_and_their_distance_are_the_peers(tmp_path: Path) -> None:
    """After some steps of training: diffusers' samples are as far from the data, by ours and by torchmetrics."""
    changes = ["train.kimg=5.12", "evaluation.evaluations=1", "evaluation.full.images=100"]
    trial = TrialSpec.from_yaml(sampling.PRESET, changes)
    model = sampling.trained(tmp_path, trial)
    full = model.trial.evaluation.full
    theirs = sampling.pipeline(model, tmp_path)(250)
    mine = sampling.ours(model, full.model_copy(update={"precision": "bf16"}))(250)
    reached = sampling.distance(model, theirs, tmp_path)
    assert sampling.distance(model, mine, tmp_path) < 1.1 * reached
    if installed("torchmetrics"):
        source = trial.data.load(Path(), tmp_path / "cache")
        fid = evaluation_share.measured_by_torchmetrics(model, source, tmp_path)
        evaluation_share.same_distance(nothing, model, fid, theirs, tmp_path)


@pytest.mark.slow
def test_a_comparison_shows_what_mlflows_page_does(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tracking_uri=None)
    ours, theirs = [], []
    with comparing.filled(settings, cells=2, seeds=2) as (server, name, values):
        assert values == 4 * (comparing.EVALUATIONS * (6 + 3 * comparing.BETWEEN) + 1)
        ours.append(comparing.opened(name, settings))
        theirs.append(comparing.Page(server.uri, name).opened())
    comparing.same(nothing, ours[0], theirs[0])
    assert len(ours[0]["lr1", 1][1]) == comparing.EVALUATIONS
    ours[0]["lr1", 1][1][3] = (4000, 0.0)
    with pytest.raises(AssertionError, match="difference to what MLflow shows"):
        comparing.same(nothing, ours[0], theirs[0])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_growth_is_the_power_that_a_cost_grows_by(power: float) -> None:
    steps = [growth.Step(n, 0.01 * n**power, 100.0) for n in (10, 30, 300)]
    for before, now in itertools.pairwise(steps):
        assert now.exponent(before) == pytest.approx(power)
    assert "exponent" not in growth.told("squares", steps[0], None)
    last = growth.told("squares", steps[-1], steps[-2])
    assert f"exponent {power:.2f}" in last
    assert last.endswith("superlinear") == (power == 2.0)


def test_growth_out_of_proportion_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([3.0, 1.0, 4.0, 5.0])
    monkeypatch.setattr(growth, "step", lambda _, n: growth.Step(n, next(spent), 1.0))
    before = growth.Step(10, 0.5, 1.0)
    assert growth.measured("x", 20, before).cpu_s == 1.0
    assert growth.measured("x", 20, before).cpu_s == 4.0


@pytest.mark.slow
def test_a_step_of_growth_is_a_process_of_its_own_and_its_peak_is_its_own() -> None:
    kept = bytearray(2**30)
    kept[::4096] = b"x" * len(kept[::4096])
    found = growth.step("streamed", 300)
    assert found.cpu_s > 0.0
    assert 100.0 < found.peak_mb < 1024.0, "of the small process, not of this one"
