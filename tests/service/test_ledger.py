"""The ledger writes down what this run did, and leaves what earlier runs did as it was."""

from __future__ import annotations

import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from service import ledger
from service.ledger import Ledger
from service.settings import Settings
from service.tracking.announce import commit
from service.tracking.outbox import Outbox
from service.tracking.rows import StoredRun
from tests.service.sweeps import UNDER, sweep
from trainer.record import Record
from trainer.report import Report, Result

RESULT = Result("finished", None, 2560, {"eval/fid": 1.0}, 500.0, 1.0, 1.0, {"eval/fid": "P"}, 10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tracking_uri=None)


def by_key(outbox: Outbox) -> dict[str, StoredRun]:
    return {run.header.key: run for run in outbox.runs()}


def facts(run: StoredRun) -> tuple[object, ...]:
    return run.header.tags, run.started_ms, run.ended_ms, run.status


def test_only_what_this_run_trains_gets_its_commit_and_times(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(settings.home / "outbox.db")

    def work(sha: str, now: float, **changes: Any) -> dict[str, StoredRun]:
        monkeypatch.setattr(ledger, "commit", lambda: {"git_sha": sha})
        book = Ledger(sweep(toy, **changes), settings, outbox, lambda _event: None, lambda: now)
        for trial in book.open():
            book.started(trial.key)
            book.take(trial.key, {"event": "ended", "result": asdict(RESULT)})
        book.close()
        return by_key(outbox)

    first = work("one", 100.0)
    assert {r.header.tags.get("git_sha") for k, r in first.items() if k[:5] != "cell:"} == {"one"}

    assert work("two", 200.0) == first, "a run that trains nothing changes nothing"

    third = work("two", 300.0, seeds=3)
    added = {key for key in third if key not in first and key.startswith("trial:")}
    assert len(added) == 2
    assert {third[key].header.tags["git_sha"] for key in added} == {"two"}
    for key in (key for key in first if key.startswith("trial:")):
        assert facts(third[key]) == facts(first[key]), "though its cell is another"


def test_runs_begin_and_end_when_their_trials_do(toy: dict[str, Any], settings: Settings) -> None:
    """However long they waited; what never began is told to nobody."""
    now = 10.0
    outbox = Outbox(settings.home / "outbox.db")
    experiment = sweep(toy)
    book = Ledger(experiment, settings, outbox, lambda _event: None, lambda: now)
    waiting = book.open()
    assert {run.header.kind for run in outbox.runs(waiting=True)} == {"sweep"}
    first, second = (trial for trial in waiting if trial.cell == "under")
    for trial, began, reported in ((first, 100.0, 150.0), (second, 200.0, 260.0)):
        now = began
        book.started(trial.key)
        report = Report(2560, reported, {"eval/fid": 1.0}, done=True)
        book.take(trial.key, {"event": "reported", "report": report.to_json()})
        book.take(trial.key, {"event": "ended", "result": asdict(RESULT)})
    now = 900.0
    book.close()

    told = {run.header.name: (run.started_ms, run.ended_ms) for run in outbox.runs(waiting=True)}
    assert told == {
        "toy": (10_000, 900_000),
        "under": (100_000, 260_000),
        "seed 0: under": (100_000, 150_000),
        "seed 1: under": (200_000, 260_000),
    }


def test_params_are_what_cells_differ_in_and_the_baseline_has_them(
    toy: dict[str, Any], settings: Settings
) -> None:
    outbox = Outbox(settings.home / "outbox.db")
    Ledger(sweep(toy, seeds=1), settings, outbox, lambda _event: None).open()
    params = {run.header.name: run.header.params for run in outbox.runs()}
    assert params["uniform"] == {"diffusion.timesteps.kind": "uniform"}
    assert params["under"]["diffusion.timesteps.kind"] == "p2"
    assert params["under"]["diffusion.timesteps.gamma"] == "0.5"
    assert params["seed 0: uniform"] == {**params["uniform"], "seed": "0"}

    lr = {"fast": {"optimizer.lr": 9e-3}}
    wider = sweep(toy, seeds=1, arms={"uniform": {}, "under": UNDER, **lr})
    Ledger(wider, settings, outbox, lambda _event: None).open()
    params = {run.header.name: run.header.params for run in outbox.runs()}
    assert params["fast"]["optimizer.lr"] == "0.009"
    assert params["seed 0: uniform"]["optimizer.lr"] == params["uniform"]["optimizer.lr"]


@pytest.mark.parametrize("metrics", [["fid", "kid"], ["kid", "fid"]])
@pytest.mark.parametrize("deciding", ["fid", "kid"])
def test_every_metric_is_tagged_with_its_protocol(
    toy: dict[str, Any], settings: Settings, metrics: list[str], deciding: str
) -> None:
    """And the run with those of the deciding metric, which need not be measured first."""
    toy["evaluation"]["metrics"] = metrics
    experiment = sweep(toy, seeds=1, compare={"metric": f"eval/{deciding}"})
    ids = {"eval/fid": "F", "eval/kid": "K", "rung/fid": "f", "rung/kid": "k"}
    for trial in experiment.trials:
        Record(settings.trial(trial.key)).write_result(replace(RESULT, protocol=ids))
    outbox = Outbox(settings.home / "outbox.db")
    Ledger(experiment, settings, outbox, lambda _event: None).open()

    for key, run in by_key(outbox).items():
        if key.startswith("trial:"):
            tags = run.header.tags
            assert (tags["protocol"], tags["protocol_rung"]) == (
                ids[f"eval/{deciding}"],
                ids[f"rung/{deciding}"],
            )
            assert {name: tags[f"protocol.{name}"] for name in ids} == ids


def test_a_result_that_cannot_be_read_is_written_again(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = sweep(toy, seeds=1)
    for trial in experiment.trials:
        Record(settings.trial(trial.key)).write_result(RESULT)
    cut = settings.trial(experiment.trials[0].key)
    (cut / "result.json").write_text("")
    book = Ledger(experiment, settings, Outbox(settings.home / "outbox.db"), lambda _event: None)

    assert [trial.key for trial in book.open()] == [cut.name]
    book.take(cut.name, {"event": "ended", "result": asdict(RESULT)})

    assert Record(cut).result() == RESULT


def test_the_commit_says_when_the_tree_was_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "a.py").write_text("1\n")
    git("add", "a.py")
    git("commit", "-qm", "one")
    git("tag", "v1")
    sha = git("rev-parse", "HEAD")

    assert commit(tmp_path) == {"git_sha": sha}
    (tmp_path / "a.py").write_text("22\n")
    assert commit(tmp_path) == {"git_sha": f"{sha}-dirty"}
    installed = tmp_path / ".venv"
    installed.mkdir()
    assert commit(installed) == {}, "the checkout of something else"
