"""What a person is told of a search: how many trials, what they cost, how far it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.agenda import Agenda
from service.cli import invoke
from service.experiment import Experiment
from service.experiment.saved import read_saved, save
from service.planning.plan import plan
from service.results import collect
from service.search.study import studies, tuned
from service.settings import Settings
from tests.service.search.searches import LR, TuningDriver, searching, tune
from tests.service.sweeps import write
from trainer.errors import InputError
from trainer.yaml.writer import yaml_text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DIFFSWEEP_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "DIFFSWEEP_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_validate_and_plan_count_both_parts(
    toy: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = searching(toy, {"seeds": 2})
    yaml = write(experiment, folder)
    assert invoke(["validate", yaml.name]) == 0
    opening = capsys.readouterr().out.splitlines()[0]
    assert opening == (
        "toy: 2 cells x 2 seeds = 4 trials, eval/fid against `uniform`; before them a search of "
        "3 candidates per cell x 2 seeds, 12 trials in all"
    )
    settings = Settings(home=folder / "runs", tracking_uri=None)
    before = plan(experiment, settings, 1)
    assert (len(before.tuning), len(before.trials)) == (12, 4)
    compared = sum(trial.seconds for trial in before.trials)
    searched = sum(trial.seconds for trial in before.tuning)
    assert before.cpu_hours == pytest.approx((compared + searched) / 3600)
    assert searched == pytest.approx(3 * compared, rel=1e-6), (
        "all cost what the YAML's setting does"
    )
    assert before.wall_s > compared + searched

    driver = TuningDriver(experiment, settings.home)
    jobs = driver.work()
    for _ in range(6):
        next(jobs)  # five are done when the sixth is handed out
    driver.close()
    assert len(plan(experiment, settings, 1).tuning) == 7
    assert invoke(["plan", yaml.name]) == 0
    assert "before them 7 trials of candidates, " in capsys.readouterr().out

    tune(experiment, settings.home)
    assert plan(experiment, settings, 1).tuning == ()


def test_compare_says_how_far_it_is_by_yaml_and_by_name(
    toy: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = searching(toy)
    yaml = write(experiment, folder)
    settings = Settings(home=folder / "runs", tracking_uri=None)
    save(experiment, settings.experiment("toy"))
    driver = TuningDriver(experiment, settings.home)
    jobs = driver.work()
    for _ in range(4):
        next(jobs)
    driver.close()
    for target in ("toy", yaml.name):
        assert invoke(["compare", target]) == 0
        out = capsys.readouterr().out
        assert "tuning: 2 of 3 candidates of `uniform`, best so far: FID " in out
        assert "tuning: 1 of 3 candidates of `under`, best so far: FID " in out
        assert (
            "no verdict: Nothing is compared yet: cells are being tuned, 3 of 6 candidates have ended."
            in out
        )
        assert invoke(["compare", target, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [len(one["points"]) for one in found["tuning"]] == [2, 1]
        assert invoke(["report", target]) == 0
        page = Path(capsys.readouterr().out.strip()).read_text()
        assert "2 of 3" in page


def test_a_saved_search_is_read_back_with_its_winners(toy: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tracking_uri=None)
    experiment = searching(toy)
    tune(experiment, tmp_path)
    known = tuned(experiment, settings)
    save(known, settings.experiment("toy"))
    saved = read_saved(settings.experiment("toy"))
    assert saved.spec.search == experiment.spec.search
    assert saved.winners == known.winners
    assert [cell.trial for cell in saved.cells] == [cell.trial for cell in known.cells]
    assert saved.resolved() == known.resolved()
    assert tuned(saved, settings) is saved
    assert [one.id for one in studies(saved, settings)] == [
        one.id for one in studies(experiment, settings)
    ]
    assert all(one.winner is not None for one in studies(saved, settings))


def test_options_reach_the_search_and_what_it_searches_is_its_own(toy: dict[str, Any]) -> None:
    data = {"name": "toy", "base": toy, "arms": {"a": {}}, "search": {"space": LR, "trials": 3}}
    changed = Experiment.from_mapping(
        data, overrides=["search.trials=5", "search.space.optimizer.lr={linear: [0.1, 0.2]}"]
    )
    assert changed.spec.search is not None
    assert changed.spec.search.trials == 5
    assert yaml_text(changed.resolved()["search"]["space"]) == (
        "{optimizer.lr: {linear: [0.1, 0.2]}}"
    )
    added = Experiment.from_mapping(
        data, overrides=["search.space.ema.decay={choice: [0.9, 0.99]}", "search.by=optuna"]
    )
    assert added.spec.search is not None
    assert (list(added.spec.search.space), added.spec.search.by) == (
        ["optimizer.lr", "ema.decay"],
        "tpe",
    )
    with pytest.raises(InputError) as error:
        Experiment.from_mapping(data, overrides=["optimizer.lr=1e-3"])
    assert str(error.value) == (
        "-o optimizer.lr=1e-3: optimizer.lr: the experiment searches this: change its range, with "
        "-o 'search.space.optimizer.lr={...}', or leave it out"
    )


def test_the_schema_knows_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["schema"]) == 0
    keys = json.loads(capsys.readouterr().out)
    search = keys["$defs"]["Search"]["properties"]
    assert set(search) == {"space", "trials", "by", "per", "seeds", "at", "seed"}
    assert all(search[name].get("description") for name in search)
    assert "optimizer.lr" in search["space"]["properties"]


def test_a_search_before_seeds_until_decided_with_a_budget(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """The looks and the budget are those of the comparison; the search has its own size."""
    settings = Settings(home=tmp_path, tracking_uri=None)
    changes: dict[str, Any] = {"seeds": {"first": 6, "most": 12}, "budget": {"trials": 20}}
    experiment = searching(toy, **changes)
    waiting = collect(experiment, settings)
    assert sorted(set(waiting.trials["seed"])) == list(range(6))
    assert len(plan(experiment, settings, 1).tuning) == 6
    tune(experiment, tmp_path)
    known = tuned(experiment, settings)
    agenda = Agenda(known, settings)
    assert len(agenda.open_work()) == 12
    assert {trial.spec.optimizer.lr for trial, _ in agenda.open_work()} == {
        cell.trial.optimizer.lr for cell in known.cells
    }
