"""DIFFSWEEP_PRIVATE: nobody but the user can read a file of a run, whichever process wrote it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from service.commands.common import settings_of
from service.settings import Settings
from service.staging import stays, variables
from tests.service.driver import Command, Driver
from tests.service.sweeps import sweep, write


def readable(folder: Path) -> list[str]:
    """Whatever of a folder somebody else could read, by its own mode alone."""
    return [
        f"{path.relative_to(folder)} {stat.filemode(path.lstat().st_mode)}"
        for path in [folder, *folder.rglob("*")]
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]


@pytest.mark.ray
@pytest.mark.slow
def test_nobody_else_reads_what_a_run_writes(
    toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    """Driver, workers, tracking database and report."""
    yaml, home = write(sweep(toy, seeds=1, launcher="train"), tmp_path), tmp_path / "home"
    before = os.umask(0o022)
    try:
        home.mkdir()
        run = Command(home, yaml, DIFFSWEEP_PRIVATE="1")
        drivers.append(run)
        code, said = run.ending()
    finally:
        os.umask(before)
    assert code == 0, said
    kinds = (
        "report.html",
        "mlflow.db",
        "outbox.db",
        "result.json",
        "reports.jsonl",
        "checkpoint-*",
    )
    assert all(any(home.rglob(kind)) for kind in kinds), "it wrote what it writes"
    assert readable(home) == []


def test_every_command_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSWEEP_PRIVATE", "true")
    before = os.umask(0o022)
    try:
        (tmp_path / "before").write_text("others may")
        settings_of(tmp_path)
        (tmp_path / "sample").write_text("it")
        assert readable(tmp_path) == ["before -rw-r--r--"]
    finally:
        os.umask(before)


def test_a_secret_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray logs a job's variables."""
    monkeypatch.setenv("DIFFSWEEP_WEBHOOK", "https://hooks.example/s3cret")
    settings = Settings(home=Path("/h"), tracking_uri=None)
    assert not any("s3cret" in value for value in variables(settings, None).values())
    assert stays(None) == ["DIFFSWEEP_WEBHOOK"]
    given = {"DIFFSWEEP_WEBHOOK": "https://hooks.example/other"}
    assert variables(settings, given)["DIFFSWEEP_WEBHOOK"] == given["DIFFSWEEP_WEBHOOK"]
    assert stays(given) == []
