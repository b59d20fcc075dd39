"""A cell that a policy ended for good says so everywhere, is never compared, and binds nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dashboards.page.rows import verdict_rows
from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.judging import judge
from dashboards.verdict.sentences import headline
from service import progress
from service.agenda import Agenda
from service.commands.compare import print_comparison
from service.experiment import Experiment
from service.policy import Fixed
from service.results import collect, judged, trial_rows, write_report
from service.settings import Settings
from service.tracking.outbox import Outbox
from tests.service.by_hand import Driver
from tests.service.policies import HALF, WHOLE, Ending, planned, with_policy
from trainer.record import Record
from trainer.report import Status, Stop

ARMS = {"uniform": {}, "under": {"optimizer.lr": 1e-4}, "wide": {"model.width": 40}}


@pytest.fixture
def stopped(toy: dict[str, Any], tmp_path: Path) -> tuple[Experiment, Driver]:
    experiment = planned(toy, Ending(), arms=ARMS)
    driver = Driver(experiment, tmp_path)
    handed = list(driver.jobs())
    assert [(c, s) for c, s, _ in handed] == [
        ("uniform", 0),
        ("under", 0),
        ("wide", 0),
        ("uniform", 1),
        ("wide", 1),
    ]
    return experiment, driver


def records(experiment: Experiment, home: Settings) -> dict[tuple[str, int], Record]:
    return {(t.cell, t.seed): Record(home.trial(t.key)) for t in experiment.trials}


def test_the_reason_is_in_record_mlflow_progress_and_outcome(
    stopped: tuple[Experiment, Driver],
) -> None:
    experiment, driver = stopped
    outcome = driver.close()
    record = records(experiment, driver.settings)["under", 0]
    (stop,) = record.stops()
    assert (stop.experiment, stop.cell, stop.policy, stop.images) == (
        "toy",
        "under",
        "ending",
        HALF,
    )
    assert stop.reason.startswith("stopped by ending: rung/fid is ")
    assert record.status() is Status.STOPPED
    assert record.images() == HALF, "its checkpoint is kept"

    assert (outcome.exit_code, outcome.finished, outcome.failed) == (0, 4, [])
    assert outcome.ended_early == 1, "seed 1 of `under` was never begun"
    assert outcome.stopped == {"under": stop.reason}, "the baseline is never stopped"
    events = [e for e in driver.events if isinstance(e, progress.TrialStopped)]
    assert [(e.cell, e.seed, e.reason) for e in events] == [("under", 0, stop.reason)]
    assert progress.describe(events[0], ()) == f"under seed 0: {stop.reason}"
    runs = {run.header.name: run for run in Outbox(driver.outbox.path).runs()}
    for name in ("under", "seed 0: under", "seed 1: under"):
        assert runs[name].header.tags["reason"] == stop.reason
        began = name != "seed 1: under"
        assert runs[name].status is (Status.STOPPED if began else Status.WAITING)
        assert (runs[name].started_ms >= 0) == began
    assert runs["wide"].status is Status.FINISHED


def test_tables_verdict_and_page_say_it_and_compare_the_rest(
    stopped: tuple[Experiment, Driver], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, driver = stopped
    (stop,) = records(experiment, driver.settings)["under", 0].stops()
    result = judged(experiment, driver.settings, collect(experiment, driver.settings))
    assert result.verdicts is not None
    assert [c.cell for c in result.verdicts.comparisons] == ["wide"]
    assert "`under` is not compared (stopped early by ending)" in headline(result.verdicts)
    rows = {(row["cell"], row["seed"]): row for row in trial_rows(result.sweep)}
    assert rows["under", 0]["reason"] == stop.reason
    assert rows["under", 0]["status"] == "stopped"
    page = write_report(experiment, driver.settings, result).read_text()
    assert page.count(stop.reason) >= 2, "beside the verdict and in the table of trials"
    assert result.verdicts is not None
    rows = verdict_rows(result.sweep, result.verdicts)
    assert [(row["cell"], row["word"] or row["instead"]) for row in rows] == [
        ("uniform", "baseline"),
        ("wide", "INCONCLUSIVE"),
        ("under", "stopped"),
    ]
    assert (rows[2]["final"], rows[2]["seeds"]) == ("none", "0 of 2")
    assert ">stopped</td>" in page
    print_comparison(result)
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table if line.rstrip().endswith(" stopped")] == ["under"]


def test_a_finished_trial_of_a_stopped_cell_is_in_no_pair_and_no_mean(
    stopped: tuple[Experiment, Driver],
) -> None:
    """Another experiment trained it to the end; here its cell is stopped."""
    experiment, driver = stopped
    driver.close()
    other = with_policy(experiment, Fixed())
    for trial in other.trials:
        Record(driver.settings.trial(trial.key)).clear_failure()
    again = Driver(other, driver.settings.home)
    assert [(c, s, u) for c, s, u in again.jobs()] == [("under", 0, WHOLE), ("under", 1, WHOLE)]
    again.close()

    sweep = collect(experiment, driver.settings)
    assert set(sweep.evidence.stopped) == {"under"}
    assert {trial.cell for trial in sweep.evidence.finished} == {"uniform", "wide"}
    assert [c.cell for c in judge(sweep.evidence).comparisons] == ["wide"]
    with pytest.raises(IncomparableError, match="baseline `under` was stopped by ending: "):
        judge(sweep.evidence, baseline="under")
    assert {c.cell for c in judge(collect(other, driver.settings).evidence).comparisons} == {
        "under",
        "wide",
    }


def test_a_stop_binds_this_experiment_under_this_policy_alone(
    stopped: tuple[Experiment, Driver],
) -> None:
    experiment, driver = stopped
    home = driver.settings
    left = {t.cell for t, _ in Agenda(experiment, home).open_work()}
    assert left == set()
    assert list(Agenda(experiment, home).stops()) == ["under"]
    for other in (Fixed(), Ending(end="wide")):
        agenda = Agenda(with_policy(experiment, other), home)
        assert "under" not in agenda.stops()
        assert "under" in {trial.cell for trial, _ in agenda.open_work()}


def test_a_stop_that_was_decided_holds_although_the_numbers_would_not_say_it_now(
    stopped: tuple[Experiment, Driver],
) -> None:
    experiment, driver = stopped
    record = records(experiment, driver.settings)["under", 0]
    (record.directory / "reports.jsonl").write_text("")
    assert list(Agenda(experiment, driver.settings).stops()) == ["under"]


def test_a_stop_that_was_cut_short_on_its_way_to_the_records_is_written_by_the_next_driver(
    stopped: tuple[Experiment, Driver],
) -> None:
    experiment, driver = stopped
    record = records(experiment, driver.settings)["under", 0]
    (stop,) = record.stops()
    (record.directory / "stops.json").unlink()
    driver.close()
    again = Driver(experiment, driver.settings.home)
    assert list(again.jobs()) == []
    assert [s.reason for s in record.stops()] == [stop.reason]


def test_stops_of_several_experiments_lie_side_by_side(tmp_path: Path) -> None:
    record = Record(tmp_path)
    first = Stop("a", "cell", "halving", "r", "stopped by halving at 1 of 2 kimg: x", 1000, 1.0)
    assert record.stops() == []
    record.write_stop(first)
    record.write_stop(Stop("b", "cell", "racing", "r", "y", 1000, 2.0))
    later = Stop("a", "cell", "halving", "s", "z", 2000, 3.0)
    record.write_stop(later)
    assert [(s.experiment, s.reason) for s in record.stops()] == [("b", "y"), ("a", "z")]
    (tmp_path / "stops.json").write_text(json.dumps([{"cell": 1}])[:-3])
    assert record.stops() == []


def test_stopping_everything_leaves_a_plain_word(toy: dict[str, Any], tmp_path: Path) -> None:
    experiment = planned(toy, Ending())
    driver = Driver(experiment, tmp_path)
    list(driver.jobs())
    result = judged(experiment, driver.settings, collect(experiment, driver.settings))
    assert result.verdicts is not None
    assert headline(result.verdicts) == "`under` is not compared (stopped early by ending)."
    assert write_report(experiment, driver.settings, result).exists()
