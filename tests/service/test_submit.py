"""What is sent to a cluster, and what a person is told when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.errors import ServiceError
from service.experiment import Experiment
from service.settings import Settings
from service.submit import (
    DEFAULT_ADDRESS,
    Jobs,
    Submission,
    _entrypoint,
    _staged,
    _variables,
    address_of,
)
from tests.service.sweeps import ROOT, free_port, sweep, write
from trainer.yaml.writer import yaml_document

QUICKSTART = ROOT / "experiments" / "quickstart.yaml"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("DIFFSWEEP_")]:
        monkeypatch.delenv(name)
    return Settings(home=tmp_path, tracking_uri=None, ray_address=None)


def test_the_code_and_the_experiment_are_sent_and_nothing_else() -> None:
    with _staged(Experiment.from_yaml(QUICKSTART)) as (folder, file):
        assert file == "experiments/quickstart.yaml"
        names = {path.name for path in folder.iterdir()}
        assert names <= {"trainer", "service", "dashboards", "experiments", "pyproject.toml"}
        assert names >= {"trainer", "service", "experiments"}
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert not [path for path in files if "__pycache__" in path.parts]
        assert sum(path.stat().st_size for path in files) < 5_000_000
    assert not folder.exists()


def test_what_is_sent_validates_where_it_arrives_with_nothing_installed(tmp_path: Path) -> None:
    """The folder alone is enough: another YAML with a preset of its own, and code from the folder."""
    (tmp_path / "presets").mkdir()
    preset = (ROOT / "experiments" / "presets" / "digits.yaml").read_text()
    (tmp_path / "presets" / "mine.yaml").write_text(preset)
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\nbase: presets/mine.yaml\narms: {a: {}, b: {optimizer.lr: 1e-3}}\nseeds: 2\n"
    )
    original = Experiment.from_yaml(mine)
    with _staged(original) as (folder, file):
        program = (
            "import service, sys; from service import Experiment;"
            f"print(service.__file__); print(*[t.key for t in Experiment.from_yaml({file!r}).trials])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
        )
        code, keys = done.stdout.splitlines()
        assert Path(code).is_relative_to(folder)
        assert keys.split() == [trial.key for trial in original.trials], (
            "and it means the same trials"
        )


NAMES = ["0.10", "1_000", "1e-3", "yes", "0o17", "2026-11-26", "12", "null", "1.0", "0x1F"]
ODD = f"""\
name: 2026-11-26
base: presets/mine.yaml
arms:
  plain:
{"".join(f"  {name}: {{optimizer.lr: {i + 11}e-3}}" + chr(10) for i, name in enumerate(NAMES))}
set: {{optimizer.eps: 1e-7, train.kimg: 2560e-3}}
compare: {{baseline: '0.10', metric: eval/fid}}
seeds: [9223372036854775807, 017]
"""


def test_names_and_numbers_that_look_like_others_arrive_as_they_are(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """The cluster reads the same trials, under the same names and keys, as were validated here."""
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.yaml").write_text(yaml_document(toy))
    (tmp_path / "mine.yaml").write_text(ODD)
    original = Experiment.from_yaml(tmp_path / "mine.yaml")

    with _staged(original) as (folder, file):
        again = Experiment.from_yaml(folder / file)

    assert file == "2026-11-26.yaml"
    assert [cell.name for cell in original.cells] == ["plain", *NAMES]
    assert again.name == original.name == "2026-11-26"
    assert again.cells == original.cells
    assert again.seeds == original.seeds == [2**63 - 1, 17]
    assert [t.key for t in again.trials] == [t.key for t in original.trials]


def test_a_preset_named_by_an_option_is_written_out(toy: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(yaml_document(toy))
    (tmp_path / "mine.yaml").write_text("name: mine\nbase: not_here.yaml\nseeds: 1\n")
    options = ["base=other.yaml", "optimizer.lr=0.125", " base = other.yaml"]
    original = Experiment.from_yaml(tmp_path / "mine.yaml", options)

    with _staged(original) as (folder, file):
        line = _entrypoint(file, original.options)
        sent = Experiment.from_yaml(folder / file, ["optimizer.lr=0.125"])

    assert line == "python -m service run mine.yaml -o optimizer.lr=0.125"
    assert [t.key for t in sent.trials] == [t.key for t in original.trials]


def test_a_file_among_the_sent_ones_with_a_preset_that_is_not_is_written_out() -> None:
    """An absolute path means something on this machine only."""
    preset = ROOT / "experiments" / "presets" / "digits.yaml"
    file = ROOT / "experiments" / "of_this_test.yaml"
    try:
        file.write_text(f"name: of_this_test\nbase: {preset}\n")
        with _staged(Experiment.from_yaml(file)) as (folder, sent):
            assert sent == "of_this_test.yaml"
            assert "gaussians" not in (folder / sent).read_text()
            assert str(preset) not in (folder / sent).read_text()
    finally:
        file.unlink()


def test_an_experiment_written_in_python_is_sent_whole(toy: dict[str, Any]) -> None:
    original = sweep(toy)
    with _staged(original) as (folder, file):
        again = Experiment.from_yaml(folder / file)
        assert [t.key for t in again.trials] == [t.key for t in original.trials]


def test_the_entrypoint_is_safe_in_a_shell() -> None:
    line = _entrypoint("my experiments/a.yaml", ("train.kimg=20", "name=$(rm -rf x)"))
    assert (
        line
        == "python -m service run 'my experiments/a.yaml' -o train.kimg=20 -o 'name=$(rm -rf x)'"
    )


def test_only_a_server_address_travels_and_given_variables_win(settings: Settings) -> None:
    assert _variables(settings, None) == {}
    served = settings.model_copy(update={"tracking_uri": "http://mlflow:5000"})
    assert _variables(served, None) == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert _variables(served, {"MLFLOW_TRACKING_URI": "http://x"}) == {
        "MLFLOW_TRACKING_URI": "http://x"
    }
    local = settings.model_copy(update={"tracking_uri": "sqlite:////home/me/mlflow.db"})
    assert _variables(local, {"A": "1"}) == {"A": "1"}


def test_variables_that_were_set_travel_and_what_means_something_here_only_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "DIFFSWEEP_HOME": "/shared/runs",
        "DIFFSWEEP_CONCURRENCY": "4",
        "DIFFSWEEP_DATA": "~/d",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DIFFSWEEP_RAY_ADDRESS", "http://head:8265")
    monkeypatch.setenv("DIFFSWEEP_TRACKING_PATIENCE_S", "")
    assert _variables(settings, None) == given
    assert _variables(settings, {"DIFFSWEEP_HOME": "/x"})["DIFFSWEEP_HOME"] == "/x"
    monkeypatch.setenv("DIFFSWEEP_HOME", "runs")
    monkeypatch.setenv("DIFFSWEEP_DATA", "./data")
    assert _variables(settings, None) == {"DIFFSWEEP_CONCURRENCY": "4"}


def test_where_the_cluster_is(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert address_of(settings) == DEFAULT_ADDRESS
    driver = settings.model_copy(update={"ray_address": "10.0.0.1:6379"})
    assert address_of(driver) == DEFAULT_ADDRESS, "the port of drivers is not the port of jobs"
    assert (
        address_of(settings.model_copy(update={"ray_address": "http://head:8265/"}))
        == "http://head:8265"
    )
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:8265")
    assert address_of(settings) == "http://other:8265"
    assert address_of(settings, "http://given:1") == "http://given:1"


def test_no_cluster_is_one_line_with_the_way_out() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"no Ray cluster answers at {address}") as refusal:
        Jobs(address)
    assert "ray start --head" in refusal.value.fix


@pytest.mark.parametrize(
    ("status", "over"), [("PENDING", False), ("RUNNING", False), ("FAILED", True)]
)
def test_a_submission_is_over_when_it_neither_waits_nor_runs(status: str, over: bool) -> None:
    assert Submission("x-1", "x", status).is_over is over


def test_a_yaml_that_was_edited_after_it_was_read_is_sent_as_it_was_read(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    yaml = write(sweep(toy), tmp_path)
    read = Experiment.from_yaml(yaml)
    yaml.write_text("name: other\n")
    with _staged(read) as (folder, file):
        assert [t.key for t in Experiment.from_yaml(folder / file).trials] == [
            t.key for t in read.trials
        ]
