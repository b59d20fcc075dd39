"""What is sent to a cluster, and what a person is told when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.address import DEFAULT_ADDRESS, address_of
from service.errors import ServiceError
from service.experiment import Experiment
from service.settings import Settings, load
from service.staging import TIME_TO_END, entrypoint, staged, variables
from service.submit import Jobs, Submission, _submission
from tests.service.sweeps import ROOT, answering, free_port, sweep, write
from trainer.yaml.writer import yaml_document

QUICKSTART = ROOT / "experiments" / "quickstart.yaml"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("DIFFSWEEP_")]:
        monkeypatch.delenv(name)
    return Settings(home=tmp_path, tracking_uri=None, ray_address=None)


def test_the_code_and_the_experiment_are_sent_and_nothing_else() -> None:
    with staged(Experiment.from_yaml(QUICKSTART)) as (folder, file):
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
    with staged(original) as (folder, file):
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

    with staged(original) as (folder, file):
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

    with staged(original) as (folder, file):
        line = entrypoint(file, original.options)
        sent = Experiment.from_yaml(folder / file, ["optimizer.lr=0.125"])

    assert line == "python -m service run mine.yaml -o optimizer.lr=0.125"
    assert [t.key for t in sent.trials] == [t.key for t in original.trials]


def test_a_file_among_the_sent_ones_with_a_preset_that_is_not_is_written_out() -> None:
    """An absolute path means something on this machine only."""
    preset = ROOT / "experiments" / "presets" / "digits.yaml"
    file = ROOT / "experiments" / "of_this_test.yaml"
    try:
        file.write_text(f"name: of_this_test\nbase: {preset}\n")
        with staged(Experiment.from_yaml(file)) as (folder, sent):
            assert sent == "of_this_test.yaml"
            assert "gaussians" not in (folder / sent).read_text()
            assert str(preset) not in (folder / sent).read_text()
    finally:
        file.unlink()


def test_an_experiment_written_in_python_is_sent_whole(toy: dict[str, Any]) -> None:
    original = sweep(toy)
    with staged(original) as (folder, file):
        again = Experiment.from_yaml(folder / file)
        assert [t.key for t in again.trials] == [t.key for t in original.trials]


def test_the_entrypoint_is_safe_in_a_shell() -> None:
    line = entrypoint("my experiments/a.yaml", ("train.kimg=20", "name=$(rm -rf x)"))
    assert (
        line
        == "python -m service run 'my experiments/a.yaml' -o train.kimg=20 -o 'name=$(rm -rf x)'"
    )


def test_only_a_server_address_travels_and_given_variables_win(settings: Settings) -> None:
    assert variables(settings, None) == TIME_TO_END
    served = settings.model_copy(update={"tracking_uri": "http://mlflow:5000"})
    assert variables(served, None) == {**TIME_TO_END, "MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    given = {**dict.fromkeys(TIME_TO_END, "5"), "MLFLOW_TRACKING_URI": "http://x"}
    assert variables(served, given) == given
    local = settings.model_copy(update={"tracking_uri": "sqlite:////home/me/mlflow.db"})
    assert variables(local, {"A": "1"}) == {**TIME_TO_END, "A": "1"}


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
    assert variables(settings, None) == {**TIME_TO_END, **given}
    assert variables(settings, {"DIFFSWEEP_HOME": "/x"})["DIFFSWEEP_HOME"] == "/x"
    monkeypatch.setenv("DIFFSWEEP_HOME", "runs")
    monkeypatch.setenv("DIFFSWEEP_DATA", "./data")
    assert variables(settings, None) == {**TIME_TO_END, "DIFFSWEEP_CONCURRENCY": "4"}


def test_where_a_store_is_travels_and_who_asks_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"DIFFSWEEP_HOME": "s3://lab/us", "AWS_ENDPOINT_URL": "http://minio:9000"}
    secret = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s3cr3t"}
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**given, **secret, "DIFFSWEEP_SCRATCH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert variables(load(), None) == {**TIME_TO_END, **given}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://given:1", "http://given:1"),
        ("https://given/", "https://given"),
        ("given:1", "http://given:1"),
        ("given", "http://given:8265"),
        ("10.0.0.1", "http://10.0.0.1:8265"),
        (":8266", "http://127.0.0.1:8266"),
        ("[::1]:8265", "http://[::1]:8265"),
        ("[::1]", "http://[::1]:8265"),
    ],
)
def test_an_address_may_lack_scheme_and_port_and_wins_over_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:8265")
    monkeypatch.setenv("RAY_ADDRESS", "http://third:8265")
    assert address_of(settings, given) == meant
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", given)
    assert address_of(settings) == meant, "the variable is read the same way"


@pytest.mark.parametrize(
    ("drivers", "jobs"),
    [
        (None, DEFAULT_ADDRESS),
        ("auto", DEFAULT_ADDRESS),
        ("10.0.0.1:6379", "http://10.0.0.1:8265"),
        ("ray://head:10001", "http://head:8265"),
        ("http://head:8266/", "http://head:8266"),
    ],
)
def test_where_drivers_connect_says_on_which_host_jobs_are_taken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, drivers: str | None, jobs: str
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert address_of(settings.model_copy(update={"ray_address": drivers})) == jobs


def test_the_address_of_drivers_is_refused_with_that_of_jobs(settings: Settings) -> None:
    with pytest.raises(ServiceError, match="where drivers connect") as refusal:
        address_of(settings, "ray://head:10001")
    assert "http://head:8265" in refusal.value.fix


def test_an_address_of_a_scheme_that_ray_has_not_is_refused(settings: Settings) -> None:
    for address in ("ftp://head:8265", "file:///tmp"):
        with pytest.raises(
            ServiceError, match=r"is no address of a cluster: f.* none of http, htt"
        ):
            address_of(settings, address)
    assert address_of(settings, "https://head:8265") == "https://head:8265"


@pytest.mark.parametrize("variable", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_the_cluster_that_is_named_is_the_one_that_is_asked(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Ray's own client lets both variables win over what it is given: here another server would answer."""
    with answering(version="2.60.0") as there:
        monkeypatch.setenv(variable, there.address)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        address = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(ServiceError, match=f"no Ray cluster answers at {address}"):
            Jobs(address)
        assert there.asked == 0
        Jobs(there.address)
        assert there.asked > 0
        assert os.environ[variable] == there.address


def test_no_cluster_is_one_line_with_the_way_out() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"no Ray cluster answers at {address}") as refusal:
        Jobs(address)
    assert "ray start --head" in refusal.value.fix


def job(status: str, **more: Any) -> Any:
    """A job as Ray tells it."""
    given = {
        "submission_id": "x-1",
        "entrypoint": "",
        "metadata": {},
        "message": "",
        "runtime_env": {},
    }
    times = {"start_time": None, "end_time": None}
    return SimpleNamespace(status=status, **{**given, **times, **more})


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        ("FAILED", "Job entrypoint command failed with exit code 1, last available logs (...):\nlog\nlog",
         "exit code 1: not all trials have a number"),
        ("FAILED", "Job entrypoint command failed with exit code -9, last available logs (...):\nlog",
         "exit code -9: its log says why"),
        ("FAILED", "The actor died unexpectedly before finishing this task.\n\tlog",
         "The actor died unexpectedly before finishing this task."),
        ("PENDING", "Job has not started yet. It may be waiting for resources.", "Job has not started yet"),
        ("SUCCEEDED", "Job finished successfully.", ""),
        ("STOPPED", "Job was intentionally stopped.", ""),
    ],
)  # fmt: skip
def test_a_failed_jobs_log_is_no_message(status: str, message: str, said: str) -> None:
    assert _submission(job(status, message=message)).message == said


@pytest.mark.parametrize(
    ("command", "experiment"),
    [
        ("python -m service run experiments/quickstart.yaml", "quickstart"),
        ("python -m service run 'my experiments/a.yaml' -o seeds=2", "a"),
        ("/opt/venv/bin/diffsweep run a.yaml", "a"),
        ("python train.py", ""),
    ],
)
def test_jobs_of_ray_alone_are_known_by_their_command(command: str, experiment: str) -> None:
    assert _submission(job("RUNNING", entrypoint=command)).experiment == experiment
    named = _submission(job("RUNNING", entrypoint=command, metadata={"experiment": "b"}))
    assert named.experiment == "b"


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
    with staged(read) as (folder, file):
        assert [t.key for t in Experiment.from_yaml(folder / file).trials] == [
            t.key for t in read.trials
        ]
