"""A machine's speed is kept per trial, as large as it is measured, and shared by trials of equal cost."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from service.planning import calibration, measuring, plan
from service.planning.calibration import Bench, NotKnownError, shape
from service.planning.company import as_a_worker, company
from service.planning.speed import Speed
from service.resources import Capacity, Resources
from service.settings import Settings
from tests.service.sweeps import sweep, wait_for
from trainer.ensemble import Ensemble
from trainer.loop import train
from trainer.record import Record
from trainer.report import Result
from trainer.trial import TrialSpec


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy networks are measured in a twentieth of the usual time."""
    monkeypatch.setattr(measuring, "TRAIN_S", 0.05)
    monkeypatch.setattr(measuring, "GENERATE_S", 0.03)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def bench(settings: Settings, at_once: int = 1, measures: bool = True) -> Bench:
    return Bench(Path(), settings.cache, Resources(), Capacity(most=at_once), measures)


def refuse(*_: object) -> Speed:
    raise AssertionError("measured again")


def test_the_calibration_is_kept(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = TrialSpec.model_validate(toy)
    first = bench(settings).speed(trial)
    monkeypatch.setattr(Bench, "_measured", refuse)

    assert bench(settings).speed(trial) == first
    other = trial.model_copy(update={"train": trial.train.model_copy(update={"batch_size": 32})})
    with pytest.raises(AssertionError, match="measured again"):
        bench(settings).speed(other)


def test_a_damaged_calibration_is_measured_again(toy: dict[str, Any], settings: Settings) -> None:
    trial = TrialSpec.model_validate(toy)
    bench(settings).speed(trial)
    (kept,) = settings.cache.glob("calibration-*.json")
    kept.write_text('{"train_s')

    assert bench(settings).speed(trial).train_s_per_image > 0


def test_the_calibration_is_of_the_right_order(toy: dict[str, Any], settings: Settings) -> None:
    trial = TrialSpec.model_validate(toy)
    pace = bench(settings).speed(trial)
    predicted, _ = pace.seconds(trial, workers=1)

    list(train(trial, settings.trial("it"), cache=settings.cache, device="cpu"))

    result = Record(settings.trial("it")).result()
    assert result is not None
    assert pace.parameters == result.parameters
    # a busy machine may be several times slower or faster from one second to the next
    assert abs(math.log(predicted / result.seconds)) < math.log(20)


def test_seconds_of_a_speed(toy: dict[str, Any]) -> None:
    trial = TrialSpec.model_validate(toy)
    pace = Speed(train_s_per_image=0.01, full_s=5.0, rung_s=1.0, parameters=1, device="cpu")
    points = trial.evaluation_points()

    assert pace.seconds(trial, 1) == (pytest.approx(25.6), pytest.approx(len(points) + 3 * 5.0))
    assert pace.seconds(trial, 2)[0] == pytest.approx(12.8)
    half = points[-2]
    assert pace.seconds(trial, 1, half) == (
        pytest.approx(0.01 * (trial.total_images() - half)),
        pytest.approx(16.0),
    )
    only_full = trial.model_copy(
        update={"evaluation": trial.evaluation.model_copy(update={"rung": None})}
    )
    assert pace.seconds(only_full, 1)[1] == pytest.approx(3 * 5.0 * len(points))


def test_questions_cost_their_passes(toy: dict[str, Any]) -> None:
    """Of the bound one per step of its chain, of the ODE four derivatives with their probes, where they are asked."""
    pace = Speed(train_s_per_image=0.01, full_s=5.0, rung_s=1.0, parameters=1, device="cpu")
    asked = ["fid", {"kind": "nll", "steps": 3, "images": 7, "probes": 2}]
    measured = {**toy["evaluation"], "draws": 1}
    plain = TrialSpec.model_validate({**toy, "evaluation": measured})
    trial = TrialSpec.model_validate({**toy, "evaluation": {**measured, "metrics": asked}})
    full = trial.evaluation.full
    per_pass = 5.0 / (full.images * full.steps)
    times = (
        len(trial.evaluation_points()) + 1
    )  # the cheap protocol at each, the full one at the end
    more = pace.seconds(trial, workers=1)[1] - pace.seconds(plain, workers=1)[1]
    assert more == pytest.approx(times * 7 * (4 * 3 * 5) * per_pass)


def test_a_draw_more_costs_what_a_draw_costs(toy: dict[str, Any]) -> None:
    """Priced without measuring again; what it took is another shape's."""
    pace = Speed(train_s_per_image=0.01, full_s=5.0, rung_s=1.0, parameters=1, device="cpu")
    trials = {
        draws: TrialSpec.model_validate(
            toy | {"evaluation": toy["evaluation"] | {"draws": draws}},
        )
        for draws in (1, 2, 5)
    }
    costs = {draws: pace.seconds(trial, 1)[1] for draws, trial in trials.items()}
    assert costs[2] - costs[1] == pytest.approx(5.0)
    assert costs[5] - costs[1] == pytest.approx(20.0)
    assert len({kept(trial) for trial in trials.values()}) == 1
    assert len({shape(trial) for trial in trials.values()}) == 3


LEARNED = {"schedule": {"kind": "learned"}, "objective": {"kind": "vlb"}}
COSTLIER: list[dict[str, Any]] = [
    {"diffusion": LEARNED},
    {"diffusion": {"timesteps": {"kind": "loss_second_moment"}}},
    {"diffusion": {"prediction": {"kind": "both"}}},
    {"diffusion": {"objective": {"kind": "hybrid", "variance": "learned_range"}}},
    {"optimizer": {"lr": 3e-3, "grad_clip": 0.5}},
    {"train": {"kimg": 5.12, "batch_size": 64}},
]
"""What more is computed in."""
EQUAL: list[dict[str, Any]] = [
    {"seed": 5},
    {"diffusion": {"timesteps": {"kind": "p2"}}},
    {"diffusion": {"schedule": {"kind": "linear_beta"}}},
    {"diffusion": {"weighting": {"kind": "min_snr"}}},
    {"ema": {"kind": "constant"}},
]
"""What computes the same with other numbers."""


@pytest.mark.parametrize("change", COSTLIER, ids=str)
def test_what_computes_more_is_another_shape(toy: dict[str, Any], change: dict[str, Any]) -> None:
    assert shape(TrialSpec.model_validate(toy | change)) != shape(TrialSpec.model_validate(toy))


@pytest.mark.parametrize("change", EQUAL, ids=str)
def test_other_numbers_are_the_same_shape(toy: dict[str, Any], change: dict[str, Any]) -> None:
    assert shape(TrialSpec.model_validate(toy | change)) == shape(TrialSpec.model_validate(toy))


def test_an_input_computes_more(toy: dict[str, Any]) -> None:
    """Of data that can give it."""
    photographs = toy | {"data": {"kind": "image_folder", "path": "photographs"}}
    plain = TrialSpec.model_validate(photographs)
    told = TrialSpec.model_validate(photographs | {"inputs": [{"kind": "mirrored"}]})
    assert shape(told) != shape(plain)
    assert kept(told) != kept(plain)


def kept(trial: TrialSpec) -> str:
    return calibration._identity(trial, 1)


@pytest.mark.parametrize("change", [*COSTLIER[:-1], *EQUAL[1:]], ids=str)
def test_a_speed_is_kept_for_the_whole_step(toy: dict[str, Any], change: dict[str, Any]) -> None:
    """Average, clipping, objective, memories and inputs are in the step, so they are in the name."""
    assert kept(TrialSpec.model_validate(toy | change)) != kept(TrialSpec.model_validate(toy))


def test_budget_seed_and_logging_do_not_change_a_speed(
    toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = toy["train"] | {"kimg": 5.12, "log_every_kimg": 0.64}
    trial = TrialSpec.model_validate(toy)
    assert kept(TrialSpec.model_validate(toy | {"seed": 3, "train": train})) == kept(trial)
    before = kept(trial)
    monkeypatch.setattr(calibration, "_VERSION", 0)
    assert kept(trial) != before


def test_what_is_not_known_is_not_measured_where_that_would_hold_a_run_up(
    toy: dict[str, Any], settings: Settings
) -> None:
    """What was measured with other trials beside it will do there; elsewhere it is measured anew."""
    trial = TrialSpec.model_validate(toy)
    with pytest.raises(NotKnownError):
        bench(settings, measures=False).speed(trial)
    known = bench(settings).speed(trial)
    assert bench(settings, measures=False).speed(trial) == known
    assert bench(settings, at_once=2, measures=False).speed(trial) == known


def test_of_steps_that_trials_take_as_one_program_each_is_told_its_share(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = TrialSpec.model_validate(toy)
    several = replace(bench(settings), together=lambda _: 4)
    alone, shared = (of.speed(trial) for of in (bench(settings), several))
    assert several.speed(trial) == shared != alone, "each is kept"

    seen: list[int] = []
    step = Ensemble.step
    monkeypatch.setattr(
        Ensemble, "step", lambda one: (step(one), seen.append(len(one.trainings)))[0]
    )

    def one_second(work: Any, *_: Any) -> float:
        work()
        return 1.0

    monkeypatch.setattr(measuring, "_seconds", one_second)
    source = trial.data.load(Path(), settings.cache)
    given = trial, source, settings.cache, "cpu", 1
    assert measuring.measure(*given, 4).train_s_per_image == 1 / (4 * trial.train.batch_size)
    assert set(seen) == {4}

    def tight(_: Ensemble) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Ensemble, "step", tight)
    assert measuring.measure(*given, 4).train_s_per_image == 1 / trial.train.batch_size, "alone"


def test_as_many_trials_share_a_program_as_are_alike_and_leave_no_place_empty(
    toy: dict[str, Any], settings: Settings
) -> None:
    def shared(room: int, **changes: Any) -> list[int]:
        one = sweep(toy, seeds=6, **{"launcher": "ensemble", **changes})
        told = plan.together(one, settings, Capacity(most=room))
        return [told(cell.trial) for cell in one.cells]

    assert shared(2, together=4) == [4, 4]
    assert shared(2) == [6, 6]
    assert shared(100) == [1, 1]
    assert shared(1, launcher="inproc") == [1, 1]
    other = {"a": {}, "wide": {"model.width": 48}, "fp16": {"train.precision": "fp16"}}
    assert shared(1, arms=other) == [6, 6, 1], "another shape is no company, and some step alone"
    done = sweep(toy, seeds=6, launcher="ensemble").trials[:8]
    for trial in done:
        Record(settings.trial(trial.key)).write_result(RESULT)
    assert shared(1) == [4, 4], "of those that are left"


RESULT = Result("finished", None, 1, {}, 0.0, 1.0, 1.0, {}, 1)


def test_trials_are_timed_in_the_company_that_they_will_have(
    toy: dict[str, Any], settings: Settings
) -> None:
    """Another process trains meanwhile, and is gone afterwards."""
    both = bench(settings, at_once=2)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    seen: list[int] = []
    trial = TrialSpec.model_validate(toy)
    with company(both.company - 1, trial, Path(), settings.cache, "cpu", 1):
        seen += {c.pid for c in psutil.Process().children(recursive=True)} - before
        assert len(seen) == 1
        (other,) = (psutil.Process(pid) for pid in seen)
        used = sum(other.cpu_times()[:2])
        busy = wait_for(lambda: sum(other.cpu_times()[:2]) > used + 0.1, "work beside")
        assert busy
    assert not psutil.pid_exists(seen[0])


@pytest.mark.parametrize(
    ("resources", "at_once", "company"),
    [
        ({}, 1, 1),
        ({}, 2, 2),
        ({}, 1000, 32),
        ({"workers": 2}, 3, 6),
        ({"gpus": 1}, 8, 1),
        ({"gpus": 0.5}, 8, 2),
        ({"gpus": 0.25}, 3, 3),
    ],
)
def test_company_is_who_shares_the_same_device(
    resources: dict[str, Any], at_once: int, company: int
) -> None:
    bench = Bench(Path(), Path(), Resources(**resources), Capacity(most=at_once))
    assert bench.company == company


def test_comparisons_cost_what_they_look_at(toy: dict[str, Any]) -> None:
    """Features by the image, pairs by both numbers of images, everything else once a draw."""
    trial = TrialSpec.model_validate({**toy, "evaluation": {**toy["evaluation"], "draws": 1}})
    full, rung = trial.evaluation.full, trial.evaluation.rung
    assert rung is not None
    plain = Speed(0.01, 5.0, 1.0, 1, "cpu")
    more = replace(
        plain,
        features_s_per_image=0.1,
        compare_s=2.0,
        compare_s_per_pair=0.001,
        real_images=100,
    )
    points = len(trial.evaluation_points())
    images = points * rung.images + full.images
    assert more.seconds(trial, 1)[1] - plain.seconds(trial, 1)[1] == pytest.approx(
        0.1 * images + 2.0 * (points + 1) + 0.001 * 100 * images
    )
    cheaper = replace(more, rung_features_s_per_image=0.04)
    assert more.seconds(trial, 1)[1] - cheaper.seconds(trial, 1)[1] == pytest.approx(
        0.06 * points * rung.images
    )
    held = replace(plain, keep_s=0.5, start_s=3.0)
    assert held.holding(trial) == pytest.approx(3.0 + 0.5 * points)
    assert held.holding(trial, trial.evaluation_points()[0]) == pytest.approx(2.5 + 0.5 * points)


def test_what_is_timed_steps_back_as_rays_workers_do() -> None:
    """And this process does not."""
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert as_a_worker(niceness) == 15
    assert os.getpriority(os.PRIO_PROCESS, 0) == before == niceness()
