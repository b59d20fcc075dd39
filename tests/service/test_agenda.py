"""The agenda offers what is wanted and not done, and decides from the records alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from service.agenda import Agenda
from service.errors import ServiceError
from service.experiment import Experiment
from service.policy import Design, PlanPolicy, Work
from service.records import stand
from service.settings import Settings
from tests.service.policies import HALF, WHOLE, Halving, Standings, Straying, planned
from tests.service.sweeps import sweep
from trainer.record import Record
from trainer.report import Failure, Report, Result, Status

END = Result("finished", None, WHOLE, {"eval/fid": 1.0}, 0.0, 1.0, 1.0, {}, 10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tracking_uri=None)


def keys(experiment: Experiment) -> dict[tuple[str, int], str]:
    return {(trial.cell, trial.seed): trial.key for trial in experiment.trials}


def test_what_is_done_busy_or_broken_is_passed_over(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = sweep(toy, seeds=3)
    key = keys(experiment)
    agenda = Agenda(experiment, settings, "now")
    everything = [trial.key for trial in experiment.trials]
    assert [trial.key for trial, _ in agenda.open_work()] == everything

    Record(settings.trial(key["uniform", 0])).write_result(END)
    Record(settings.trial(key["under", 0])).write_result(replace(END, status="diverged"))
    Record(settings.trial(key["uniform", 1])).write_failure(Failure("broke", "now"))
    Record(settings.trial(key["under", 1])).write_failure(Failure("broke", "yesterday"))
    for each in everything:
        agenda.refresh(each)

    left = [(trial.cell, trial.seed) for trial, _ in agenda.open_work()]
    assert left == [("under", 1), ("uniform", 2), ("under", 2)], "broken yesterday: tried again"
    following = agenda.next({key["under", 1]})
    assert following is not None
    assert (following[0].cell, following[0].seed, following[1]) == ("uniform", 2, WHOLE)
    assert agenda.next(everything) is None


def test_a_policy_sees_no_more_than_a_driver_that_starts_again_would(
    toy: dict[str, Any], settings: Settings
) -> None:
    trial = sweep(toy).trials[0]
    record = Record(settings.trial(trial.key))
    assert stand(record, "now").status is Status.WAITING
    record.add_report(Report(HALF, 1.0, {"rung/fid": 1.0}))
    with record.writer():
        assert stand(record, "now").status is Status.STOPPED, "not: running"
    record.write_failure(Failure("broke", "yesterday"))
    assert stand(record, "now").status is Status.STOPPED
    assert stand(record, "now").failure is None
    assert stand(record, "yesterday").status is Status.FAILED
    record.write_result(END)
    assert stand(record, "yesterday").status is Status.FINISHED


def test_a_trial_that_came_as_far_as_wanted_waits_until_more_is_wanted(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = planned(toy, Halving())
    key = keys(experiment)
    agenda = Agenda(experiment, settings)
    fids = {("uniform", 0): 2.0, ("under", 0): 1.0, ("uniform", 1): 2.0, ("under", 1): 3.5}
    for pair, fid in fids.items():
        following = agenda.next()
        assert following is not None
        assert (following[0].cell, following[0].seed, following[1]) == (*pair, HALF)
        Record(settings.trial(key[pair])).add_report(Report(HALF, 1.0, {"rung/fid": fid}))
        agenda.refresh(key[pair])

    work = [(t.cell, t.seed, until) for t, until in agenda.open_work()]
    assert work == [("uniform", 0, WHOLE), ("uniform", 1, WHOLE)]
    assert agenda.wants_more(key["uniform", 0])
    assert not agenda.wants_more(key["under", 0])


def test_the_last_report_without_its_result_is_not_the_end(
    toy: dict[str, Any], settings: Settings
) -> None:
    """A kill between the two: the trial is started once more, to write what is missing."""
    trial = sweep(toy, seeds=1).trials[0]
    Record(settings.trial(trial.key)).add_report(Report(WHOLE, 1.0, {}, done=True))

    following = Agenda(sweep(toy, seeds=1), settings).next()

    assert following is not None
    assert following[0].key == trial.key


def test_reports_on_another_disk_do_not_start_a_trial_again_and_again(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = planned(toy, Halving(), seeds=1)
    agenda = Agenda(experiment, settings)
    agenda.paused(experiment.trials[0].key, HALF)

    following = agenda.next()

    assert following is not None
    assert following[0].key == experiment.trials[1].key


def test_cells_that_come_to_one_trial_are_one_piece_of_work(
    toy: dict[str, Any], settings: Settings
) -> None:
    spec = sweep(toy, seeds=1)
    twin = replace(spec.cells[0], name="same")
    experiment = replace(spec, cells=(*spec.cells, twin))
    assert len({trial.key for trial in experiment.trials}) == 2

    assert len(Agenda(experiment, settings).open_work()) == 2


class Counting(PlanPolicy):
    """Counts how often it is asked, which no real member may."""

    kind: Literal["counting"] = "counting"

    def wanted(self, design: Design, standings: Standings) -> Sequence[Work]:
        """Everything."""
        CALLS.append(len(standings))
        return [Work(cell, seed, WHOLE) for seed in design.seeds for cell in design.cells]


CALLS: list[int] = []


def test_a_report_costs_one_record_and_one_question_even_with_500_trials(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = planned(toy, Counting(), seeds=250)
    agenda = Agenda(experiment, settings)
    CALLS.clear()
    record = Record(settings.trial(experiment.trials[-1].key))
    took = []
    for step in range(1, 51):
        record.add_report(Report(40 * step, 1.0, {"rung/fid": 1.0}))
        began = time.process_time()
        agenda.refresh(record.directory.name)
        for _ in range(10):
            assert agenda.next() is not None
        took.append(time.process_time() - began)

    assert CALLS == [500] * 50, "asked once after each report, not at every look"
    # Measured at 2 ms of CPU; reading 500 records instead of one takes 50 and more.
    assert sorted(took)[25] < 0.02


def test_work_that_is_not_planned_is_told_with_the_policys_name(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = planned(toy, Straying())
    agenda = Agenda(experiment, settings)
    for trial in experiment.trials[:2]:
        assert agenda.next() is not None
        Record(settings.trial(trial.key)).write_result(END)
        agenda.refresh(trial.key)
    with pytest.raises(ServiceError) as error:
        agenda.next()
    assert str(error.value).startswith(
        "the policy straying wants cell `under` with seed 99, which is not planned:"
        " the cells are uniform, under, the seeds 0, 1"
    )
    assert "wanted" in error.value.fix
