"""A budget is one number; what it lets begin follows from the records."""

from __future__ import annotations

from typing import Any

import pytest

from service.experiment.budget import Budget
from service.policy import Standing
from service.resources import Resources
from service.spending import affordable, left_over, room, seconds
from tests.service.sweeps import sweep
from trainer.errors import InputError
from trainer.report import Report, Result, Status

END = Result("finished", None, 2560, {}, 0.0, 1800.0, 1800.0, {}, 10)
DONE = Standing(Status.FINISHED, (), END)
HALF = Standing(
    Status.STOPPED,
    (
        Report(1000, 0.0, {"sys/img_per_s": 10.0, "sys/eval_s": 20.0}),
        Report(3000, 0.0, {"sys/img_per_s": 20.0, "sys/eval_s": 30.0}),
    ),
)
NEW = Standing()


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "budget: takes exactly one of gpu_hours, cpu_hours and trials, it has none"),
        ({"trials": 3, "cpu_hours": 1}, "not cpu_hours and trials"),
        ({"trails": 3}, "budget.trails: unknown key, did you mean `trials`?"),
        ({"trials": 0}, "budget.trials: must be 1 or more, not `0`"),
        ({"cpu_hours": 0}, "budget.cpu_hours: must be greater than 0, not `0`"),
        ({"gpu_hours": 1}, "budget.gpu_hours: its trials use no GPU"),
    ],
)
def test_slips_are_told_in_plain_words(toy: dict[str, Any], budget: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        sweep(toy, budget=budget)
    assert message in str(error.value)


def test_it_is_said_with_its_unit() -> None:
    assert Budget(trials=1).label() == "1 trial"
    assert Budget(trials=12).label() == "12 trials"
    assert Budget(gpu_hours=1.5).label() == "1.5 GPU-hours"


def test_a_trial_on_its_way_has_cost_what_its_reports_say() -> None:
    assert seconds(DONE) == 3600
    assert seconds(HALF) == 100 + 20 + 100 + 30
    assert seconds(NEW) == 0


@pytest.mark.parametrize(
    ("budget", "resources", "left"),
    [
        (Budget(trials=2), Resources(), 0),
        (Budget(trials=5), Resources(), 3),
        (Budget(cpu_hours=1.0), Resources(), 0),
        (Budget(cpu_hours=1.1), Resources(), None),
        (Budget(cpu_hours=4.2), Resources(cpus=2, workers=2), 0),
        (Budget(cpu_hours=4.3), Resources(cpus=2, workers=2), None),
        (Budget(gpu_hours=0.53), Resources(cpus=8, gpus=0.5), 0),
    ],
)
def test_hours_count_every_workers_devices(
    budget: Budget, resources: Resources, left: int | None
) -> None:
    records = {"a": DONE, "b": HALF, "c": NEW}
    assert room(budget, dict.fromkeys(records, resources), records) == left


def test_each_trial_spends_its_own_devices() -> None:
    """An hour on one GPU, 250 s on two workers with half a GPU each, nothing on a CPU alone."""
    records = {"a": DONE, "b": HALF, "c": DONE}
    occupied = {"a": Resources(gpus=1), "b": Resources(workers=2, gpus=0.5), "c": Resources()}
    spent = 3600 + 250
    assert left_over(Budget(gpu_hours=2), occupied, records) == 7200 - spent
    assert left_over(Budget(cpu_hours=3), occupied, records) == 3 * 3600 - 2 * 3600 - 500


def test_what_has_begun_goes_on_and_the_most_urgent_begin() -> None:
    records = {"a": NEW, "b": HALF, "c": NEW, "d": DONE, "e": NEW}
    wanted = dict.fromkeys(records, 2560)
    assert list(affordable(wanted, records, 0)) == ["b", "d"]
    assert list(affordable(wanted, records, 2)) == ["a", "b", "c", "d"]
    assert affordable(wanted, records, None) == wanted
