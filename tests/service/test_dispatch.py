"""Jobs follow the policy, in one run or in as many as there are events: real trials, without Ray."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from service import progress
from service.dispatch import Dispatch
from service.experiment import Experiment
from service.ledger import Ledger
from service.outcome import Outcome
from service.policy import Fixed, PlanPolicy
from service.settings import Settings
from service.tracking.outbox import Outbox
from service.worker import Job, Message, run_trial
from tests.service.policies import HALF, WHOLE, Dropping, Growing, Halving, planned
from tests.service.sweeps import final_metrics
from trainer.record import Record
from trainer.report import Failure, Report, Result, Status

Handed = tuple[str, int, int]
"""Cell, seed and images until which a job trains."""


class _Killed(BaseException):
    """The driver's process is no more."""


class _Stopped(BaseException):
    """Tune ends a trial at a report in this way."""


class Driver:
    """One run of an experiment, one trial at a time, in this process."""

    def __init__(self, experiment: Experiment, home: Path) -> None:
        self.settings = Settings(home=home, tracking_uri=None)
        self.events: list[progress.Event] = []
        self.outbox = Outbox(home / "outbox.db")
        self.ledger = Ledger(experiment, self.settings, self.outbox, self.events.append)
        self.dispatch = Dispatch(experiment, self.settings, self.ledger, threading.Event())
        self._of_key = {trial.key: (trial.cell, trial.seed) for trial in experiment.trials}

    def jobs(self, messages: int | None = None, heard: bool = True) -> Iterator[Handed]:
        """Do what is wanted; the driver is killed at so many messages, before or after it heard the last."""
        self.ledger.open()
        while (job := self.dispatch.next()) is not None:
            yield (*self._of_key[job.key], job.until_images)
            self.dispatch.started(job.key)
            try:
                messages = self._train(job, messages, heard)
            except _Stopped:
                messages = messages and messages - 1
            self.dispatch.released(job.key, "it ended without a result")
        assert self.dispatch.is_over

    def _train(self, job: Job, messages: int | None, heard: bool) -> int | None:
        def send(message: Message) -> None:
            nonlocal messages
            messages = messages and messages - 1
            if messages == 0 and not heard:
                raise _Killed
            is_stopped = self.dispatch.take(job.key, dict(message))
            if messages == 0:
                raise _Killed
            if is_stopped:
                raise _Stopped

        run_trial(job, send)
        return messages

    def close(self) -> Outcome:
        outcome = self.ledger.close()
        self.outbox.close()
        return outcome


POLICIES = [
    (Fixed(), {}),
    (Growing(), {"seeds": 3}),
    (Halving(), {}),
    (Dropping(), {}),
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

    handed: list[Handed] = []
    for _ in range(100):
        driver = Driver(experiment, tmp_path / "killed")
        try:
            handed += driver.jobs(messages=1, heard=heard)
        except _Killed:
            continue
        finally:
            driver.outbox.close()
        break

    continued = [work for work, _ in groupby(handed)]  # the job in hand is handed out again
    assert continued == expected
    assert final_metrics(tmp_path / "killed") == final_metrics(tmp_path / "whole")


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
        f"{survivor} seed 0": Status.FINISHED,
        f"{survivor} seed 1": Status.FINISHED,
        f"{other} seed 0": Status.STOPPED,
        f"{other} seed 1": Status.STOPPED,
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
