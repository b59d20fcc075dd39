"""A search on a real Ray: tuned, compared, killed in the middle and continued, extended, and told to the person."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from service import launch
from service.experiment.saved import read_saved
from service.results import collect, judged, tracked, write_report
from service.search.study import studies, tuned
from service.settings import Settings
from tests.service.driver import Driver, gone
from tests.service.search.searches import searching, tune
from tests.service.sweeps import final_metrics, wait_for, write
from trainer.record import Record
from trainer.report import Status

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def asked(home: Path) -> dict[str, list[dict[str, Any]]]:
    """File of a study to its candidates."""
    files = (home / "experiments" / "toy" / "search").glob("*.jsonl")
    return {f.name: [json.loads(row) for row in f.read_text().splitlines()] for f in files}


def test_kill_9_in_the_middle_then_the_same_command_continues_the_same_search(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    experiment = searching(toy, launcher="inproc")
    yaml = write(experiment, tmp_path)
    one_at_a_time = {"DIFFSWEEP_CONCURRENCY": "1"}

    tune(experiment, tmp_path / "whole")

    drivers.append(Driver(tmp_path / "killed", yaml, **one_at_a_time))
    drivers[0].until("under #1 seed 999999999: 0.64 of 2.56 kimg")
    family = drivers[0].family()
    os.kill(drivers[0].process.pid, signal.SIGKILL)
    wait_for(lambda: gone(family), "every process of the killed driver to end", 30)
    half = Settings(home=tmp_path / "killed", tracking_uri=None)
    assert tuned(experiment, half).winners == {}
    assert {t.status for t in collect(experiment, half).evidence.trials} == {Status.WAITING}
    drivers.append(Driver(tmp_path / "killed", yaml, **one_at_a_time))
    ended = drivers[1].end()
    assert (ended["exit_code"], ended["tuned"], ended["finished"]) == (0, 3, 4)

    assert asked(tmp_path / "killed") == asked(tmp_path / "whole")
    numbers = final_metrics(tmp_path / "killed")
    assert len(numbers) == 6 + 4
    assert numbers.items() >= final_metrics(tmp_path / "whole").items()


def test_winners_are_compared_on_fresh_seeds_and_everything_reads_them_back(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, tracking_uri=None)
    experiment = searching(toy, launcher="inproc")
    outcome = launch.run(experiment, settings)
    assert (outcome.exit_code, outcome.tuned, outcome.finished) == (0, 6, 4)

    winners = {study.cell: study.winner for study in studies(experiment, settings)}
    known = tuned(experiment, settings)
    for trial in known.trials:
        spec = json.loads((settings.trial(trial.key) / "trial.json").read_text())
        winner = winners[trial.cell]
        assert winner is not None
        assert spec["optimizer"]["lr"] == winner.params["optimizer.lr"]
        assert spec["seed"] in (0, 1)
        assert Record(settings.trial(trial.key)).status() is Status.FINISHED
    rows = tracked(experiment, settings).trials
    assert {row["trial_key"] for row in rows} == {trial.key for trial in known.trials}

    elsewhere = Settings(home=tmp_path / "elsewhere", tracking_uri=settings.store_uri)
    rows = tracked(experiment, elsewhere).trials
    assert {row["trial_key"] for row in rows} == {trial.key for trial in known.trials}, (
        "where the files of the search are not, MLflow knows its winners"
    )

    saved = read_saved(settings.experiment("toy"))
    assert [trial.key for trial in saved.trials] == [trial.key for trial in known.trials]
    assert saved.identities() == experiment.identities()
    result = judged(saved, settings, collect(saved, settings))
    assert result.verdicts is not None
    assert result.to_dict()["tuning"][0]["winner"] is not None
    page = write_report(saved, settings, result).read_text()
    assert 'id="tuning"' in page
    assert "seed 999999999" in page

    again = launch.run(experiment, settings)
    assert (again.tuned, again.finished, again.skipped) == (0, 0, 4), "all is done"
    more = launch.run(searching(toy, {"trials": 4}, launcher="inproc"), settings)
    assert (more.exit_code, more.tuned) == (0, 2), "one more candidate of each"


def test_a_search_in_which_all_diverges_compares_nothing(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    toy["optimizer"] = {"kind": "sgd", "grad_clip": None}
    space = {"optimizer.lr": {"log": [500.0, 1000.0]}}
    experiment = searching(toy, {"space": space, "trials": 2}, arms={"wild": {}}, launcher="inproc")
    settings = Settings(home=tmp_path, tracking_uri=None)
    outcome = launch.run(experiment, settings)
    assert (outcome.exit_code, outcome.tuned, outcome.untuned) == (1, 2, ["wild"])
    assert outcome.failed == []
    result = judged(experiment, settings, collect(experiment, settings))
    assert result.verdicts is None
    assert result.refusal == "Nothing is compared: no setting that was tried works for `wild`."
    assert write_report(experiment, settings, result).exists()
