"""A printed command is the one that works here: found on PATH, or by its path, with its home."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from service import command_line
from service.settings import Settings


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs of an environment below the working directory that is not activated."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "diffsweep", "mlflow"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.delenv("DIFFSWEEP_HOME", raising=False)
    return folder


def test_a_program_that_path_does_not_find_is_named_by_its_path(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command_line.program("mlflow") == ".venv/bin/mlflow"
    assert command_line.program("elsewhere") == "elsewhere"

    other = tmp_path / "other"
    other.mkdir()
    (other / "mlflow").write_text("#!/bin/sh\n")
    (other / "mlflow").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert command_line.program("mlflow") == ".venv/bin/mlflow", (
        "another file of that name is not it"
    )

    monkeypatch.setenv("PATH", str(beside))
    assert command_line.program("mlflow") == "mlflow"

    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(other)
    assert command_line.program("mlflow") == str(beside / "mlflow")
    monkeypatch.chdir(beside)
    assert command_line.program("mlflow") == "./mlflow"


@pytest.mark.usefixtures("beside")
def test_a_home_that_the_command_would_not_find_is_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(home: Path) -> str:
        return command_line.diffsweep("sync", "a b", settings=Settings(home=home))

    plain, with_home = ".venv/bin/diffsweep sync 'a b'", ".venv/bin/diffsweep sync 'a b' --home "
    assert line(Path("runs")) == plain
    assert line(Path("mine")) == with_home + "mine"
    assert line(Path("/far/away")) == with_home + "/far/away"
    monkeypatch.setenv("DIFFSWEEP_HOME", "runs")  # as `make demo` does
    assert line(Path("runs")) == plain
    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "big"))
    assert line(tmp_path / "big") == with_home + "big", "the variable may end with the command"
    assert line(Path("runs")) == with_home + "runs"
    store = Settings(home=Path("s3://lab/us"))
    assert command_line.diffsweep("sync", settings=store).endswith(" sync --home s3://lab/us")
    assert command_line.diffsweep("status") == ".venv/bin/diffsweep status"
