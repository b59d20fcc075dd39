"""Whatever happens to a file of one trial, or of a cache, the other trials are compared and the page is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cli import invoke
from service.experiment import Experiment

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("folder")]


def garbage(file: Path) -> None:
    file.write_bytes(b"\xff\x00garbage" * 20)


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def gone(file: Path) -> None:
    file.unlink()


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nonexistent/file")


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "something").touch()


def remove(file: Path) -> None:
    if file.is_dir():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)


@pytest.mark.parametrize("happens", [garbage, half, empty, gone, dangling, a_directory])
def test_the_other_trials_stand(
    happens: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = Experiment.from_yaml("x.yaml")
    (home,) = Path.cwd().rglob("trials")
    lost, *others = experiment.trials
    folder = home / lost.key
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "writer.lock"]
    assert {"reports.jsonl", "result.json", "trial.json"} < {file.name for file in files}
    for file in files:
        kept = file.read_bytes()
        happens(file)
        assert invoke(["compare", "x.yaml", "--json"]) == 0, file
        told = json.loads(capsys.readouterr().out)
        known = {
            (row["cell"], row["seed"]) for row in told["trials"] if row["status"] == "finished"
        }
        assert {(trial.cell, trial.seed) for trial in others} <= known, file
        remove(file)
        file.write_bytes(kept)
    for file in files:  # all at once
        happens(file)
    assert invoke(["report", "x.yaml"]) == 0
    assert Path(capsys.readouterr().out.strip()).stat().st_size > 1_000_000
    shutil.rmtree(folder)


@pytest.mark.parametrize("happens", [garbage, half, empty, gone, dangling])
def test_what_is_cached_is_made_again(
    happens: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (cache,) = (path for path in Path.cwd().rglob("cache") if path.is_dir())
    for file in [p for p in sorted(cache.rglob("*")) if p.is_file() and p.suffix != ".lock"]:
        happens(file)
    experiment = Experiment.from_yaml("x.yaml")
    trial = experiment.trials[0].key
    assert invoke(["evaluate", trial, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)["metrics"]["eval/fid"]
    (result,) = Path.cwd().rglob(f"trials/{trial}/result.json")
    assert value == pytest.approx(json.loads(result.read_text())["metrics"]["eval/fid"], rel=1e-9)
