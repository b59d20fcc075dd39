"""Jobs follow the policy, in one run or in as many as there are events: real trials, without Ray."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service import policy as members
from service import progress
from service.cli import invoke
from service.experiment import Experiment
from service.experiment.budget import Budget
from service.planning.plan import plan
from service.policy import Fixed, PlanPolicy
from service.results import collect, judged, remarks, write_report
from service.settings import Settings
from service.tracking.outbox import Outbox
from service.worker import Message, run_trial
from tests.service.by_hand import Driver, killed_at_every_event
from tests.service.policies import HALF, WHOLE, Dropping, Growing, Halving, planned
from tests.service.sweeps import final_metrics, write
from trainer.record import Record
from trainer.report import Failure, Report, Result, Status

SMALL = {"train.kimg": 0.64, "evaluation.evaluations": 2}
UNTIL_DECIDED = {
    "arms": {"uniform": {}, "near": {"model.width": 31}, "idle": {"optimizer.lr": 1e-7}},
    "compare": {"margin": 0.0},
    "seeds": {"first": 8, "most": 10, "every": 1},
    "set": SMALL,
}
"""`idle` learns nothing and is decided at the first look; `near` is not."""
FIELD = {
    "arms": {
        "uniform": {},
        "wide": {"model.width": 40},
        "wider": {"model.width": 48},
        "fast": {"optimizer.lr": 1e-2},
        "idle": {"optimizer.lr": 1e-7},
    },
    "set": {"train.kimg": 1.28},
    "seeds": 1,
}
"""Cells of which `idle` falls behind at once."""
POLICIES = [
    (members.Halving(), FIELD),
    (members.Median(at=(0.25,)), FIELD),
    (members.Racing(error=0.45), FIELD),
    (Fixed(), {}),
    (Growing(), {"seeds": 3}),
    (Halving(), {}),
    (Dropping(), {}),
    (Fixed(), UNTIL_DECIDED),
    (Fixed(), {"budget": {"trials": 3}}),
]


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
@pytest.mark.parametrize(("policy", "changes"), POLICIES, ids=lambda p: getattr(p, "kind", ""))
def test_a_driver_killed_at_every_event_hands_out_the_same_work(
    toy: dict[str, Any], tmp_path: Path, policy: PlanPolicy, changes: dict[str, Any], heard: bool
) -> None:
    experiment = planned(toy, policy, **changes)
    whole = Driver(experiment, tmp_path / "whole")
    expected = list(whole.jobs())
    whole.close()

    continued = killed_at_every_event(experiment, tmp_path / "killed", heard)

    assert continued == expected
    assert final_metrics(tmp_path / "killed") == final_metrics(tmp_path / "whole")
    stops = reasons(experiment, tmp_path / "whole")
    assert reasons(experiment, tmp_path / "killed") == stops
    assert bool(stops) == (changes is FIELD)


def reasons(experiment: Experiment, home: Path) -> dict[tuple[str, int], str]:
    """Why trials were ended for good, as their records say."""
    trials = Settings(home=home).trials
    every = {(t.cell, t.seed): Record(trials / t.key).stops() for t in experiment.trials}
    return {pair: stop.reason for pair, stops in every.items() for stop in stops}


def test_seeds_are_given_until_a_cell_is_decided(toy: dict[str, Any], tmp_path: Path) -> None:
    experiment = planned(toy, Fixed(), **UNTIL_DECIDED)
    driver = Driver(experiment, tmp_path)
    handed = Counter(cell for cell, _, _ in driver.jobs())
    outcome = driver.close()

    assert handed["idle"] == 8
    assert handed["uniform"] == handed["near"] > 8
    assert outcome.finished == handed.total()
    told = [e.cells for e in driver.events if isinstance(e, progress.SweepEvidence)]
    assert told[0] == {"near": "0 of 8 pairs", "idle": "0 of 8 pairs"}
    assert told[-1]["idle"] == "WORSE at 8 seeds"
    runs = {run.header.name: run for run in Outbox(tmp_path / "outbox.db").runs()}
    assert len(runs) == 1 + 3 + handed.total(), "seeds that nobody asked for have no run"
    assert runs["idle"].status is Status.FINISHED
    means = Outbox(tmp_path / "outbox.db").points(runs["idle"].header.key, ["eval/fid"])
    ends = [
        Record(driver.settings.trial(t.key)).result() for t in experiment.trials if t.cell == "idle"
    ]
    finals = [end.metrics["eval/fid"] for end in ends if end is not None]
    assert means[0][3] == pytest.approx(sum(finals) / 8)
    sweep = collect(experiment, driver.settings)
    assert Counter(sweep.trials["cell"]) == handed, "the report speaks of the seeds that were given"


@pytest.mark.parametrize("budget", [{"trials": 3}, {"cpu_hours": 1e-6}])
def test_nothing_is_begun_once_the_budget_is_spent(
    toy: dict[str, Any], tmp_path: Path, budget: dict[str, float]
) -> None:
    experiment = planned(toy, Fixed(), budget=budget)
    driver = Driver(experiment, tmp_path)
    count = 3 if "trials" in budget else 1
    assert len(list(driver.jobs())) == count
    outcome = driver.close()

    said = (
        f"the budget of {Budget(**budget).label()} is spent: {count} of 4 trials; raise it to go on"
    )
    assert (outcome.finished, outcome.exit_code, outcome.budget) == (count, 0, said)
    assert progress.SweepNote(said) in driver.events
    assert remarks(experiment, driver.settings) == [said]
    assert plan(experiment, driver.settings).budget == said
    assert remarks(planned(toy, Fixed(), budget={"trials": 4}), driver.settings) == []


def test_no_look_is_promised_once_the_budget_is_spent(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = {"first": 2, "most": 4, "every": 2}
    experiment = planned(toy, Fixed(), seeds=seeds, budget={"trials": 5})
    driver = Driver(experiment, tmp_path)
    assert len(list(driver.jobs())) == 5
    driver.close()

    said = "the budget of 5 trials is spent: 5 of 8 trials; raise it to go on"
    result = judged(experiment, driver.settings, collect(experiment, driver.settings))
    assert result.verdicts is not None
    assert result.verdicts.guarantee.following is None
    assert result.to_dict()["budget"] == said
    assert said in write_report(experiment, driver.settings, result).read_text()
    write(experiment, tmp_path)
    assert invoke(["compare", str(tmp_path / "toy.yaml"), "--home", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"note: {said}\n" in printed
    for promise in ("the next look is at", "the next word falls at"):
        assert promise not in printed

    more = planned(toy, Fixed(), seeds=seeds, budget={"trials": 9})
    result = judged(more, driver.settings, collect(more, driver.settings))
    assert result.verdicts is not None
    assert (result.budget, result.verdicts.guarantee.following) == (None, 4)


def test_a_cell_gets_more_seeds_after_the_first_results(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    driver = Driver(planned(toy, Growing(), seeds=3), tmp_path)
    handed = list(driver.jobs())

    assert handed[:2] == [("uniform", 0, WHOLE), ("under", 0, WHOLE)]
    (best,) = {cell for cell, _, _ in handed[2:]}
    assert handed[2:] == [(best, 1, WHOLE), (best, 2, WHOLE)]
    assert driver.close().finished == 4


def test_all_pause_at_the_rung_and_the_better_half_goes_on(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    driver = Driver(planned(toy, Halving()), tmp_path)
    handed = list(driver.jobs())
    outcome = driver.close()

    assert [until for _, _, until in handed] == [HALF] * 4 + [WHOLE] * 2
    (survivor,) = {cell for cell, _, until in handed if until == WHOLE}
    (other,) = {cell for cell, _, _ in handed} - {survivor}
    assert (outcome.finished, outcome.failed, outcome.exit_code) == (2, [], 0)
    kinds = Counter(type(event).__name__ for event in driver.events)
    assert (kinds["TrialStarted"], kinds["TrialStopped"], kinds["TrialFinished"]) == (6, 4, 2)
    assert (
        Counter(event.start_kimg for event in driver.events if hasattr(event, "start_kimg"))
        == {0.0: 4, HALF / 1000: 2}
    )  # fmt: skip
    runs = {run.header.name: run.status for run in Outbox(tmp_path / "outbox.db").runs()}
    assert runs == {
        "toy": Status.FINISHED,
        survivor: Status.FINISHED,
        other: Status.STOPPED,
        f"seed 0: {survivor}": Status.FINISHED,
        f"seed 1: {survivor}": Status.FINISHED,
        f"seed 0: {other}": Status.STOPPED,
        f"seed 1: {other}": Status.STOPPED,
    }


def test_a_running_trial_that_is_no_longer_wanted_stops_at_its_next_report(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    experiment = planned(toy, Dropping())
    driver = Driver(experiment, tmp_path)
    handed = list(driver.jobs())
    outcome = driver.close()

    assert handed == [("uniform", 0, WHOLE), ("under", 0, WHOLE), ("uniform", 1, WHOLE)]
    dropped = next(t for t in experiment.trials if (t.cell, t.seed) == ("under", 0))
    record = Record(driver.settings.trial(dropped.key))
    assert [report.images for report in record.reports()] == [640, HALF]
    assert (record.status(), record.images()) == (Status.STOPPED, HALF), "its checkpoint is kept"
    assert (outcome.finished, outcome.failed, outcome.exit_code) == (2, [], 0)


def test_what_breaks_is_not_wanted_again_in_this_run_but_in_the_next(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    experiment = planned(toy, Fixed(), seeds=1)
    driver = Driver(experiment, tmp_path)
    broken = Record(driver.settings.trial(experiment.trials[0].key))
    broken.directory.mkdir(parents=True)
    (broken.directory / "samples").write_text("a file where a folder should be")
    assert len(list(driver.jobs())) == 2
    outcome = driver.close()
    assert [failure.cell for failure in outcome.failed] == ["uniform"]
    assert broken.status() is Status.FAILED

    (broken.directory / "samples").unlink()
    driver = Driver(experiment, tmp_path)
    assert list(driver.jobs()) == [("uniform", 0, WHOLE)]
    assert driver.close().exit_code == 0
    assert (broken.status(), broken.failure()) == (Status.FINISHED, None)


def test_a_process_that_was_lost_is_written_down_as_a_failure(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    experiment = planned(toy, Fixed(), seeds=1)
    driver = Driver(experiment, tmp_path)
    driver.ledger.open()
    job = driver.dispatch.next()
    assert job is not None
    driver.dispatch.started(job.key)
    driver.dispatch.released(job.key, "its process was lost")

    failure = Record(driver.settings.trial(job.key)).failure()
    assert failure is not None
    assert (failure.reason, failure.attempt) == ("its process was lost", driver.dispatch.attempt)
    following = driver.dispatch.next()
    assert following is not None
    assert following.key != job.key
    assert [failed.reason for failed in driver.close().failed] == ["its process was lost"]


def test_a_worker_that_is_ahead_of_its_messages_is_not_stopped_after_its_end(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """On a shared disk the record may have the result while an early report is still on its way."""
    driver = Driver(planned(toy, Dropping()), tmp_path)
    driver.ledger.open()
    first, second = driver.dispatch.next(), driver.dispatch.next()
    assert first is not None
    assert second is not None
    driver.dispatch.started(second.key)
    report = Report(640, 1.0, {"rung/fid": 1.0})
    end = Report(WHOLE, 2.0, {"eval/fid": 1.0}, done=True)
    record = Record(driver.settings.trial(second.key))
    for each in (report, end):
        record.add_report(each)
    record.write_result(Result("finished", None, WHOLE, end.metrics, 0.0, 1.0, 1.0, {}, 10))

    assert not driver.dispatch.take(
        second.key, {"event": "reported", "report": report.to_json(), "images": 640}
    )


def test_a_worker_on_another_disk_tells_the_whole_story_here(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    driver = Driver(planned(toy, Fixed(), seeds=1), tmp_path / "here")
    driver.ledger.open()
    job = driver.dispatch.next()
    assert job is not None
    driver.dispatch.started(job.key)
    away = dataclasses.replace(job, directory=str(tmp_path / "there"))
    away.record.write_failure(Failure("an older one", "yesterday"), "an older story")
    (tmp_path / "there" / "samples").write_text("a file where a folder should be")
    messages: list[Message] = []
    run_trial(away, messages.append)
    driver.dispatch.take(job.key, messages[-1])
    driver.dispatch.released(job.key, "it ended without a result")

    (failed,) = driver.close().failed
    assert failed.log is not None
    assert Path(failed.log).is_relative_to(driver.settings.trial(job.key))
    story = Path(failed.log).read_text()
    assert "Traceback" in story
    assert "write_sample" in story
    assert "an older story" not in story
    # the next worker of the same attempt, as after the restart of a group, tells the same
    again: list[Message] = []
    run_trial(away, again.append)
    assert again[-1] == messages[-1]


def test_what_ray_says_of_a_lost_process_is_kept_with_the_trial(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    driver = Driver(planned(toy, Fixed(), seeds=1), tmp_path)
    driver.ledger.open()
    job = driver.dispatch.next()
    assert job is not None
    driver.dispatch.started(job.key)
    (tmp_path / "error.txt").write_text("start" + "x" * 30_000 + "SIGSEGV")
    driver.dispatch.released(job.key, "its process was lost", str(tmp_path / "error.txt"))

    record = Record(driver.settings.trial(job.key))
    assert record.failure_text(7) == "SIGSEGV"
    assert len(record.failure_text()) == 20_000
    assert "start" not in record.failure_text(30_000)
