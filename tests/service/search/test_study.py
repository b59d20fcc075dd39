"""Candidates come from files and go on from files: killed at every event, widened, of other data, all broken."""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from service.catching_up import catch_up
from service.experiment.saved import save
from service.results import collect
from service.search.standing import sentence, tuning
from service.search.study import studies, tuned
from service.settings import Settings
from service.tracking.outbox import Outbox
from service.tracking.rows import StoredRun
from tests.service.by_hand import Killed
from tests.service.search.searches import TuningDriver, searching, tune
from tests.service.sweeps import final_metrics
from trainer.record import Record
from trainer.report import Failure, Result, Status

END = Result("finished", None, 2560, {}, 0.0, 1.0, 1.0, {}, 10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tracking_uri=None)


def asked(home: Path) -> dict[str, list[dict[str, Any]]]:
    """File of a study to its candidates."""
    files = (home / "experiments" / "toy" / "search").glob("*.jsonl")
    return {f.name: [json.loads(row) for row in f.read_text().splitlines()] for f in files}


@pytest.mark.slow
@pytest.mark.parametrize("by", ["tpe", "random"])
def test_a_driver_killed_at_every_event_asks_the_same_candidates(
    toy: dict[str, Any], tmp_path: Path, by: str
) -> None:
    experiment = searching(toy, {"by": by, "trials": 12 if by == "tpe" else 3}, arms={"a": {}})
    whole = [job.key for job in TuningDriver(experiment, tmp_path / "whole").work()]

    handed: list[str] = []
    for _ in range(200):
        driver = TuningDriver(experiment, tmp_path / "killed")
        try:
            handed.extend(job.key for job in driver.work(messages=3))
        except Killed:
            continue
        finally:
            driver.outbox.close()
        break

    assert [key for key, _ in groupby(handed)] == whole
    assert asked(tmp_path / "killed") == asked(tmp_path / "whole")
    assert final_metrics(tmp_path / "killed") == final_metrics(tmp_path / "whole")


def test_each_cell_is_tuned_alike_and_its_winner_is_what_is_compared(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy, arms={"slow": {}, "wide": {"model.width": 48}})
    assert all(trial.key.startswith("untuned-") for trial in experiment.trials)
    driver = tune(experiment, settings.home)

    known = tuned(experiment, settings)
    for study, cell in zip(driver.studies, known.cells, strict=True):
        values = {number: own[cell.name][0] for number, own in study.values().items()}
        best = min(values, key=lambda number: values[number])
        assert study.winner is study.candidates[best]
        assert cell.overrides["optimizer.lr"] == study.candidates[best].params["optimizer.lr"]
        assert cell.trial.optimizer.lr == study.candidates[best].params["optimizer.lr"]
    settings_of = [[c.params for c in study.candidates] for study in driver.studies]
    assert settings_of[0] == settings_of[1], (
        "the first ones are drawn alike: cells differ in nothing else"
    )
    judged = {(t.cell, t.seed): t.spec for t in known.trials}
    assert {seed for _, seed in judged} == {0, 1}
    assert judged["wide", 1].model.model_dump()["width"] == 48
    tuning_seeds = {
        json.loads((settings.trial(key) / "trial.json").read_text())["seed"]
        for study in driver.studies
        for candidate in study.candidates
        for keys in candidate.keys.values()
        for key in keys
    }
    assert tuning_seeds == {999_999_999}
    assert not any(settings.trial(trial.key).exists() for trial in known.trials), "fresh seeds"


def test_more_candidates_continue_the_study_and_fewer_are_the_first_of_it(
    toy: dict[str, Any], settings: Settings
) -> None:
    alone = {"arms": {"a": {}}}
    tune(searching(toy, **alone), settings.home)
    (three,) = asked(settings.home).values()
    tune(searching(toy, {"trials": 5}, **alone), settings.home)
    ((name, five),) = asked(settings.home).items()
    assert five[:3] == three
    assert [candidate["number"] for candidate in five] == [0, 1, 2, 3, 4]

    (fewer,) = studies(searching(toy, {"trials": 2}, **alone), settings)
    assert len(fewer.candidates) == 2
    assert fewer.winner is not None

    (other,) = studies(searching(toy, {"seed": 1}, **alone), settings)
    assert other.candidates == []
    assert name != f"{other.id}.jsonl"


def test_candidates_that_learned_from_other_data_are_asked_again(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy, arms={"a": {}})
    (study,) = tune(experiment, settings.home).studies
    file = settings.experiment("toy") / "search" / f"{study.id}.jsonl"
    first, *rest = file.read_text().splitlines()
    row = json.loads(first)
    row["keys"] = {"a": ["of-another-fingerprint"]}
    file.write_text("\n".join([json.dumps(row), *rest]))

    (again,) = studies(experiment, settings)
    assert again.candidates == []
    file.write_text(first[:-5])
    (damaged,) = studies(experiment, settings)
    assert damaged.candidates == [], (
        "a file that cannot be read is asked again, the trials are kept"
    )


def test_what_diverges_is_the_worst_and_no_failure_of_the_run(
    toy: dict[str, Any], settings: Settings
) -> None:
    """A learning rate of 1000 diverges; 3e-3 does not."""
    space = {"optimizer.lr": {"choice": [1000.0, 3e-3]}}
    toy["optimizer"] = {"kind": "sgd", "grad_clip": None}
    driver = tune(searching(toy, {"space": space, "trials": 2}, arms={"a": {}}), settings.home)

    (study,) = driver.studies
    scores = {c.params["optimizer.lr"]: study.scores()[c.number] for c in study.candidates}
    assert scores[1000.0] == math.inf
    assert math.isfinite(scores[3e-3])
    assert study.winner is not None
    assert study.winner.params == {"optimizer.lr": 3e-3}
    assert (driver.ledger.outcome.exit_code, driver.ledger.outcome.tuned) == (0, 2)
    told = sentence(tuning(study))
    assert told.startswith("tuning: 2 of 2 candidates of `a`, best: FID ")
    assert "optimizer.lr 0.003" in told


def test_a_search_in_which_nothing_works_says_so_and_tries_again_what_broke(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy, {"trials": 2}, arms={"a": {}})
    driver = TuningDriver(experiment, settings.home)
    driver.ledger.open()
    for _ in range(2):
        job = driver.dispatch.next()
        assert job is not None
        driver.dispatch.started(job.key)
        driver.dispatch.released(job.key, "its process was lost")
    assert driver.dispatch.is_over
    assert [failure.cell for failure in driver.close().failed] == ["a #0", "a #1"]
    (study,) = driver.studies
    assert study.winner is None
    assert "none works" in sentence(tuning(study))
    assert tuned(experiment, settings).winners == {}

    (study,) = tune(experiment, settings.home).studies
    assert study.winner is not None


def test_one_that_broke_counts_as_the_worst_in_later_runs_too(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy, arms={"a": {}})
    (study,) = tune(experiment, settings.home).studies
    assert study.winner is not None
    (key,) = study.winner.keys["a"]
    (settings.trial(key) / "result.json").unlink()
    Record(settings.trial(key)).write_failure(Failure("out of memory", "yesterday"))

    (again,) = tune(experiment, settings.home).studies
    assert again.scores()[study.winner.number] == math.inf
    assert again.winner is not None
    assert again.winner.number != study.winner.number


def test_one_setting_for_all_has_the_lowest_mean_log_metric(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy, {"per": "all", "seeds": 2})
    (study,) = tune(experiment, settings.home).studies
    values = study.values()
    assert {len(own) for cells in values.values() for own in cells.values()} == {2}
    logs = {
        number: sum(math.log(sum(own) / 2) for own in cells.values()) / 2
        for number, cells in values.items()
    }
    assert study.scores() == pytest.approx(logs)
    known = tuned(experiment, settings)
    assert len({cell.trial.optimizer.lr for cell in known.cells}) == 1
    assert "of all cells together" in sentence(tuning(study))


def test_a_candidate_may_be_judged_on_the_way(toy: dict[str, Any], settings: Settings) -> None:
    experiment = searching(toy, {"at": 1.0}, arms={"a": {}})
    (study,) = tune(experiment, settings.home).studies
    for candidate in study.candidates:
        record = Record(settings.trial(candidate.keys["a"][0]))
        assert record.status() is Status.STOPPED
        assert [report.images for report in record.reports()] == [640, 1280]
        assert study.values()[candidate.number] == {
            "a": (record.reports()[-1].metrics["rung/fid"],)
        }
    assert study.winner is not None


def test_the_tracking_server_sees_candidates_apart_from_the_comparison(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy)
    driver = tune(experiment, settings.home)
    runs = {run.header.name: run for run in Outbox(driver.outbox.path).runs()}
    assert set(runs) == {
        "toy",
        *(f"{cell} tuning" for cell in ("uniform", "under")),
        *(f"{c} #{n} seed 999999999" for c in ("uniform", "under") for n in range(3)),
    }

    def of(run: StoredRun) -> dict[str, float]:
        points = Outbox(driver.outbox.path).points(run.header.key, ("search/",))
        return {f"{name} {step}": value for name, step, _, value in points}

    for study in driver.studies:
        assert study.winner is not None
        best = math.inf
        for number, values in study.values().items():
            run = runs[f"{study.cell} #{number} seed 999999999"]
            (value,) = values[str(study.cell)]
            assert run.header.parent == runs[f"{study.cell} tuning"].header.key
            assert run.header.tags["search"] == "tuning"
            assert run.header.tags["search.winner"] == str(number == study.winner.number).lower()
            assert (
                float(run.header.params["optimizer.lr"])
                == study.candidates[number].params["optimizer.lr"]
            )
            assert of(run) == {"search/objective 0": value}
            best = min(best, value)
            assert of(runs[f"{study.cell} tuning"])[f"search/best {number + 1}"] == best
        assert runs[f"{study.cell} tuning"].status is Status.FINISHED


def test_comparing_while_it_is_tuned_shows_cells_that_wait(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy)
    driver = TuningDriver(experiment, settings.home)
    jobs = driver.work()
    for _ in range(4):
        next(jobs)
    sweep = collect(experiment, settings)
    assert set(sweep.trials["status"]) == {Status.WAITING}
    assert sweep.cells == ["uniform", "under"]
    assert [len(found.points) for found in sweep.tuning] == [2, 1]
    assert sentence(sweep.tuning[1]).startswith(
        "tuning: 1 of 3 candidates of `under`, best so far: FID "
    )


def test_an_outbox_that_was_lost_is_filled_again_with_every_candidate(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = searching(toy)
    driver = tune(experiment, settings.home)
    home = settings.experiment(experiment.name)
    save(tuned(experiment, settings), home)

    def known(outbox: Outbox) -> dict[str, Any]:
        return {
            run.header.key: (
                (run.header.name, {**run.header.tags, "git_sha": ""}, run.status),
                [
                    (name, step, value)
                    for name, step, _, value in outbox.points(
                        run.header.key, ("eval/", "search/obj")
                    )
                ],
            )
            for run in outbox.runs()
            if run.header.tags.get("search") == "tuning"
        }

    before = known(Outbox(driver.outbox.path))
    assert len(before) == 2 + 6
    for file in home.glob("outbox.db*"):
        file.unlink()
    anew = Outbox(home / "outbox.db")
    catch_up(settings, experiment.name, anew)
    assert known(anew) == before


def test_what_is_known_of_a_candidate_is_written_once(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each report would cost more, the more candidates there were."""
    written: list[tuple[str, str]] = []
    metrics = Outbox.metrics

    def counted(box: Outbox, key: str, points: Any, newest: bool = False) -> None:
        points = list(points)
        written.extend((key, name) for name, *_ in points if name.startswith("search/"))
        metrics(box, key, points, newest)

    monkeypatch.setattr(Outbox, "metrics", counted)
    driver = tune(
        searching(toy, {"trials": 4}, arms={"a": {}, "b": {"model.width": 48}}), settings.home
    )
    objectives = [key for key, name in written if name == "search/objective"]
    assert len(objectives) == len(set(objectives)) == 8
    assert len([key for key, name in written if name == "search/best"]) == 8
    assert all(study.is_over for study in driver.studies)
