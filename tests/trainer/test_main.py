"""Proves `python -m trainer`: a trial runs from a file, continues, and bad files are explained without a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.__main__ import main
from trainer.record import Record


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_trial_runs_and_a_second_call_has_nothing_to_do(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "trial.yaml", toy)
    arguments = [file, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main(arguments) == 0
    assert "rung/fid" in capsys.readouterr().out
    before = (tmp_path / "out" / "result.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (tmp_path / "out" / "result.json").stat().st_mtime_ns == before


def test_divergence_is_exit_code_one(toy: dict[str, Any], tmp_path: Path) -> None:
    file = write(tmp_path / "t.yaml", {**toy, "optimizer": {"lr": 1e30, "grad_clip": None}})
    assert main([file, "--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]) == 1
    assert Record(tmp_path / "o").result() is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("seed: 1\ndata: [", "is not YAML in line"),
        ("- a", "is a list, not a mapping"),
        ("data: {kind: digitz}", "data"),
        ("", "is empty: a trial needs data, model, train and evaluation"),
    ],
)
def test_bad_files_are_exit_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    assert main([write(tmp_path / "t.yaml", content)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_device_that_is_not_there_and_a_folder_that_cannot_be(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", toy)
    (tmp_path / "file").write_text("")
    assert main([file, "--out", str(tmp_path / "file" / "out"), "--cache", str(tmp_path)]) == 3
    assert "choose another --out" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main([file, "--out", str(tmp_path / "o"), "--device", "cuda"]) == 3
        assert "no CUDA device; use cpu or auto" in capsys.readouterr().err
