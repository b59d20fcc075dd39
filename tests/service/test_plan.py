"""The plan knows what is done, what continues and what is new, and prices what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.experiment import Experiment, PlannedTrial
from service.planning import measuring, plan
from service.planning.calibration import Bench
from service.planning.costs import wall
from service.planning.speed import Speed
from service.planning.starting import Starting
from service.resources import Capacity, Resources
from service.settings import Settings
from tests.service.policies import HALF, Halving, with_policy
from tests.service.sweeps import UNDER, sweep
from trainer.errors import InputError
from trainer.loop import train
from trainer.record import Record
from trainer.report import Failure, Report, Status
from trainer.trial import TrialSpec


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy networks are measured in a twentieth of the usual time, and alone."""
    monkeypatch.setattr(measuring, "TRAIN_S", 0.05)
    monkeypatch.setattr(measuring, "GENERATE_S", 0.03)
    monkeypatch.setattr(Bench, "company", 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, concurrency=2)


def experiment(toy: dict[str, Any], **parts: Any) -> Experiment:
    arms = {"a": {}, "b": {"optimizer.lr": 1e-3}}
    return Experiment.from_mapping(
        {"name": "x", "base": toy, "arms": arms, "seeds": 2, "launcher": "inproc", **parts}
    )


def start(trial: PlannedTrial, settings: Settings) -> Iterator[Report]:
    return train(trial.spec, settings.trial(trial.key), cache=settings.cache, device="cpu")


def finish(trial: PlannedTrial, settings: Settings) -> None:
    assert list(start(trial, settings))[-1].done


def refuse(*_: object) -> Speed:
    raise AssertionError("measured again")


def test_everything_is_new_at_first(toy: dict[str, Any], settings: Settings) -> None:
    found = plan.plan(experiment(toy), settings)

    assert [(t.cell, t.seed, t.status) for t in found.trials] == [
        ("a", 0, Status.WAITING),
        ("b", 0, Status.WAITING),
        ("a", 1, Status.WAITING),
        ("b", 1, Status.WAITING),
    ]
    assert found.count(Status.WAITING) == 4
    assert all(t.train_s > 0 and t.eval_s > 0 for t in found.trials)
    assert found.cpu_hours == pytest.approx(sum(t.seconds for t in found.trials) / 3600)
    assert found.gpu_hours == 0.0
    assert 0 < found.evaluation_share < 1
    assert found.disk_bytes > 0
    assert found.at_once == 2
    assert "calibrated" in found.basis


def test_states_follow_the_directories(toy: dict[str, Any], settings: Settings) -> None:
    trials = experiment(toy).trials
    finish(trials[0], settings)
    begun = start(trials[1], settings)
    report = next(begun)
    begun.close()

    found = plan.plan(experiment(toy), settings)

    assert [t.status for t in found.trials] == ["finished", "stopped", "waiting", "waiting"]
    assert found.done == 1
    assert found.trials[0].seconds == 0.0
    assert found.trials[1].done_kimg == pytest.approx(report.kimg)
    assert 0 < found.trials[1].seconds < found.trials[3].seconds


def test_finished_trials_of_the_same_shape_replace_the_calibration(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"arms": {"a": {}, "b": {"diffusion.timesteps": {"kind": "p2"}}}}
    finish(experiment(toy, **parts).trials[0], settings)
    monkeypatch.setattr(Bench, "speed", refuse)

    found = plan.plan(experiment(toy, **parts), settings)

    assert found.basis == "measured in 1 finished trials of the same shape"
    assert found.count(Status.WAITING) == 3
    assert all(t.seconds > 0 for t in found.trials if t.status is Status.WAITING)


def test_a_finished_experiment_costs_nothing(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = experiment(toy, seeds=1)
    for trial in done.trials:
        finish(trial, settings)
    monkeypatch.setattr(Bench, "speed", refuse)

    found = plan.plan(done, settings)

    assert (found.wall_s, found.cpu_hours, found.disk_bytes) == (0.0, 0.0, 0)
    assert found.basis == "everything is done"


def test_wall_time_of_slots() -> None:
    start = Starting(first_s=5.0, each_s=0.5)

    def takes(seconds: list[float], most: int, starts: bool = True) -> float:
        return wall([(one, Resources()) for one in seconds], Capacity(most=most), start, starts)

    assert takes([], 2) == 0.0
    assert takes([10.0], 4) == pytest.approx(5.0 + 10.5)
    assert takes([10.0], 4, starts=False) == pytest.approx(10.5)
    assert takes([10.0] * 4, 2) == pytest.approx(5.0 + 2 * 10.5)
    assert takes([10.0, 1.0, 1.0], 2) == pytest.approx(5.0 + 10.5)


def slots(one: Resources) -> int:
    return plan.local_room([one]).slots(one)


def test_more_workers_take_more_slots() -> None:
    one, wide = slots(Resources()), slots(Resources(cpus=1024))

    assert one >= 1
    assert wide == 1


def test_a_machine_without_a_gpu_plans_a_gpus_trials_by_its_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(plan, "own_cpus", lambda: 8)
    assert slots(Resources(workers=2, gpus=1)) == 4
    monkeypatch.setattr(plan.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(plan.torch.cuda, "device_count", lambda: 2)
    assert slots(Resources(workers=2, gpus=1)) == 1


def test_wall_time_of_two_shapes() -> None:
    """In order: a larger one waits until there is room for it."""
    start, wide = Starting(first_s=0.0, each_s=0.0), Resources(workers=2)
    one = Resources()
    assert wall([(4.0, one), (4.0, wide), (4.0, one)], Capacity(3), start) == 8.0
    assert wall([(4.0, one), (6.0, one), (1.0, wide), (1.0, one)], Capacity(2), start) == 8.0
    assert wall([(1.0, Resources(workers=8)), (2.0, one)], Capacity(2), start) == 3.0


def test_each_cell_costs_its_own_devices(toy: dict[str, Any], settings: Settings) -> None:
    """Two workers take half as long; each holds half a GPU."""
    both = {"resources.workers": 2, "resources.gpus": 0.5}
    arms = {"narrow": {}, "wide": {**UNDER, **both}}
    found = plan.plan(sweep(toy, arms=arms, launcher="train"), settings)

    seconds = {name: [t.seconds for t in found.trials if t.cell == name] for name in arms}
    assert found.gpu_hours == pytest.approx(sum(seconds["wide"]) / 3600)
    assert found.cpu_hours == pytest.approx(
        (sum(seconds["narrow"]) + 2 * sum(seconds["wide"])) / 3600
    )
    assert plan.Plan.of(json.loads(json.dumps(found.to_dict()))) == found


def test_gpu_hours_count_every_worker(toy: dict[str, Any], settings: Settings) -> None:
    found = plan.plan(
        experiment(toy, launcher="train", resources={"workers": 2, "gpus": 0.5}), settings
    )

    assert found.gpu_hours == pytest.approx(0.5 * found.cpu_hours)
    assert found.cpu_hours == pytest.approx(2 * sum(t.seconds for t in found.trials) / 3600)


def test_an_unreadable_data_set_is_an_input_error(
    toy: dict[str, Any], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy["data"] = {"kind": "image_folder", "path": "nowhere", "size": 8}
    toy["model"] = {"kind": "unet", "channels": [8, 8], "groups": 4}

    with pytest.raises(InputError, match=r"base\.data\.path: .*nowhere is not a folder"):
        plan.plan(experiment(toy), settings)


def test_the_plan_as_data(toy: dict[str, Any], settings: Settings) -> None:
    data = plan.plan(experiment(toy), settings).to_dict()

    assert data["experiment"] == "x"
    assert {t["status"] for t in data["trials"]} == {"waiting"}


def test_only_what_the_policy_wants_is_priced(toy: dict[str, Any], settings: Settings) -> None:
    """A rung of half the budget first; after it, the survivors' second half."""
    halving = with_policy(experiment(toy, seeds=1), Halving())
    whole = plan.plan(experiment(toy, seeds=1), settings)
    found = plan.plan(halving, settings)
    assert [t.until_kimg for t in found.trials] == [HALF / 1000] * 2
    assert sum(t.train_s for t in found.trials) == pytest.approx(
        sum(t.train_s for t in whole.trials) / 2
    )
    assert all(t.eval_s > 0 for t in found.trials)
    assert sum(t.eval_s for t in found.trials) < sum(t.eval_s for t in whole.trials) / 2

    for trial in halving.trials:
        list(
            train(
                trial.spec,
                settings.trial(trial.key),
                cache=settings.cache,
                device="cpu",
                until_images=HALF,
            )
        )
    (survivor,) = plan.plan(halving, settings).trials
    assert (survivor.status, survivor.done_kimg) == (Status.STOPPED, HALF / 1000)
    assert survivor.until_kimg == survivor.total_kimg


def test_a_failed_trial_is_tried_again(toy: dict[str, Any], settings: Settings) -> None:
    trials = experiment(toy).trials
    Record(settings.trial(trials[0].key)).write_failure(Failure("broke", "yesterday"))

    assert plan.plan(experiment(toy), settings).count(Status.WAITING) == 4


def test_cells_of_equal_cost_are_calibrated_once(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = {"a": {}, "p2": {"diffusion.timesteps": {"kind": "p2"}}}
    arms["remembers"] = {"diffusion.timesteps": {"kind": "loss_second_moment"}}
    asked = []

    def speed(_: Bench, trial: TrialSpec) -> Speed:
        asked.append(trial.diffusion.timesteps.kind)
        return Speed(0.01, 1.0, 0.1, 10, "cpu")

    monkeypatch.setattr(Bench, "speed", speed)
    plan.plan(experiment(toy, arms=arms), settings)

    assert asked == ["uniform", "loss_second_moment"]


def test_seeds_until_decided_are_priced_by_the_effect(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "speed", lambda *_: Speed(0.01, 1.0, 0.1, 10, "cpu"))
    found = plan.plan(experiment(toy, seeds={"first": 6, "most": 24}), settings)

    assert len(found.trials) == 12, "those of the first look"
    none, one, two = found.expected
    assert (none.effect, one.effect, two.effect) == (0.0, 1.0, 2.0)
    assert 48 >= none.trials > one.trials > two.trials >= 12
    assert none.cpu_hours == pytest.approx(none.trials * found.cpu_hours / 12)
    assert plan.plan(experiment(toy, seeds=3), settings).expected == ()
    assert [one.trials for one in plan.plan(experiment(toy, seeds=6), settings).expected] == [
        12
    ] * 3


def test_the_plan_says_what_the_budget_lets_begin(toy: dict[str, Any], settings: Settings) -> None:
    found = plan.plan(experiment(toy, budget={"trials": 3}), settings)
    assert len(found.trials) == 3
    assert found.budget == "the budget of 3 trials lets 3 of 4 trials begin"
    enough = plan.plan(experiment(toy, budget={"trials": 4}), settings)
    assert enough.budget == "the budget of 4 trials lasts for the 4 trials that are wanted now"
    assert plan.plan(experiment(toy), settings).budget is None


def test_the_plan_shows_no_more_trials_than_hours_are_expected_to_last_for(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "speed", lambda *_: Speed(0.01, 1.0, 0.1, 10, "cpu"))
    each = plan.plan(experiment(toy), settings).cpu_hours / 4
    found = plan.plan(experiment(toy, budget={"cpu_hours": 2.5 * each}), settings)
    assert [(t.cell, t.seed) for t in found.trials] == [("a", 0), ("b", 0), ("a", 1)]
    assert found.budget is not None
    assert found.budget.endswith("is expected to last for about 3 of the 4 trials that are left")


@pytest.mark.parametrize(
    ("budget", "beyond"),
    [({"trials": 14}, [True, True, False]), ({"trials": 48}, [False] * 3), (None, [False] * 3)],
)
def test_the_plan_says_which_expectation_is_beyond_the_budget(
    toy: dict[str, Any],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    budget: dict[str, int] | None,
    beyond: list[bool],
) -> None:
    monkeypatch.setattr(Bench, "speed", lambda *_: Speed(0.01, 1.0, 0.1, 10, "cpu"))
    seen = experiment(toy, seeds={"first": 6, "most": 24}, budget=budget)
    found = plan.plan(seen, settings)
    assert len(found.trials) == 12
    assert [one.is_beyond_budget for one in found.expected] == beyond
    if budget == {"trials": 14}:
        assert found.budget == (
            "the budget of 14 trials lasts for the 12 trials that are wanted now, not for all 48 that"
            " may be asked for"
        )
