"""The command starts fast, tells every mistake by exit code and in a line, and prints what it promises."""

from __future__ import annotations

import errno
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.models import CommandInfo

from service import cli, launch
from service.cli import app, invoke
from service.errors import ServiceError
from service.experiment import Experiment
from service.experiment.saved import save
from service.outcome import Failure, Outcome
from service.progress import SweepNote, TrialFinished, TrialStarted
from service.settings import Settings
from trainer.errors import CheckpointError, DataError, EnvironmentProblem, InputError, Problem

pytestmark = pytest.mark.usefixtures("folder")

ROOT = Path(__file__).parents[2]
VERBS = (
    *("run", "validate", "plan", "compare", "report", "watch", "show", "schema"),
    *("sample", "evaluate", "export", "rm", "import_"),
    *("submit", "status", "logs", "stop", "sync", "doctor"),
)


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- start ---------------------------------------------------------------------------


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from service.cli import invoke; assert invoke(['--help']) == 0;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'pandas', 'sklearn', 'scipy', 'plotly')"
        " if m in sys.modules])"
    )

    done = python("-c", code)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_validate_needs_no_ray_mlflow_or_plotly(folder: Path) -> None:
    code = (
        "import sys; from service.cli import invoke; assert invoke(['validate', 'x.yaml']) == 0;"
        "print([m for m in ('ray', 'mlflow', 'pandas', 'plotly', 'diffusers', 'torchvision')"
        " if m in sys.modules])"
    )

    done = python("-c", code, cwd=folder)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0

    text = capsys.readouterr().out
    for verb in [
        "run",
        "validate",
        "plan",
        "compare",
        "report",
        "show",
        "schema",
        "submit",
        "status",
        "logs",
        "stop",
        "sync",
        "doctor",
    ]:
        assert verb in text


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda c: c.callback.__name__)
def test_every_verb_explains_itself(
    command: CommandInfo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does and each of its options, of which none stands there without a word."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    assert command.callback is not None
    verb = command.name or command.callback.__name__
    assert invoke([verb, "--help"]) == 0

    text = " ".join(capsys.readouterr().out.split())
    (purpose, *_) = inspect.cleandoc(command.callback.__doc__ or "").split("\n")
    assert len(purpose) > 20
    assert purpose in text
    parameters = typer.main.get_command(app).commands[verb].params  # type: ignore[attr-defined]
    for parameter in parameters:
        assert parameter.help, f"{verb}: {parameter.name} is not explained"
        assert parameter.help.split("\n")[0].split("  ")[0][:40] in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("diffsweep ")


def test_python_m_service_is_the_command() -> None:
    done = python("-m", "service", "--version")

    assert done.returncode == 0
    assert done.stdout.startswith("diffsweep ")


# --- how mistakes end ----------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


ENDINGS: list[tuple[BaseException, int, str]] = [
    (InputError([Problem("f", 1, "a", "is wrong")]), 2, "f:1: a: is wrong\n"),
    (DataError("data.path: /x is not a folder"), 2, "data.path: /x is not a folder\n"),
    (ServiceError("no server", "start it"), 3, "no server\n  to fix it: start it\n"),
    (EnvironmentProblem("no GPU here"), 3, "no GPU here\n"),
    (CheckpointError("cut short"), 3, "cut short\n"),
    (
        KeyboardInterrupt(),
        130,
        "interrupted: what was computed is kept; the same command continues\n",
    ),
    (
        OSError(errno.ENOSPC, "No space left on device", "/disk/x"),
        3,
        "/disk/x: No space left on device\n"
        "  to fix it: choose another place with --home, or make room\n",
    ),
    (
        MemoryError("std::bad_alloc"),
        3,
        "this process may have no more memory (`ulimit -v`, a container's limit), or the machine has none\n"
        "  to fix it: give it more; the same command goes on\n",
    ),
]


@pytest.mark.parametrize(
    ("error", "code", "said"), ENDINGS, ids=[type(e[0]).__name__ for e in ENDINGS]
)
def test_every_kind_of_mistake_has_its_exit_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(launch, "run", raising(error))

    assert invoke(["run", "x.yaml"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("place", [0, 2])
def test_debug_shows_the_traceback(place: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["validate", "zzz"]
    arguments.insert(place, "--debug")

    assert invoke(arguments) == 2

    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("zzz: does not exist; it is looked for in .\n")


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "run", raising(ZeroDivisionError("ours")))

    with pytest.raises(ZeroDivisionError):
        invoke(["run", "x.yaml"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["frob"],
        ["run"],
        ["run", "x.yaml", "--at-once", "0"],
        ["plan", "x.yaml", "--what"],
        ["schema", "x"],
    ],
)
def test_wrong_usage_is_wrong_input(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error() -> None:
    script = f"{sys.executable} -m service schema | head -n 1; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert done.stderr == ""


def test_an_unreachable_tracking_server_ends_it_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    assert invoke(["run", "x.yaml"]) == 3

    said = capsys.readouterr().err
    assert said.startswith("the tracking server http://127.0.0.1:9 does not answer")
    assert "mlflow server --port 9" in said


def test_an_unknown_experiment_is_suggested(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Experiment.from_yaml("x.yaml"), folder / "runs" / "experiments" / "toy")

    assert invoke(["compare", "tyo"]) == 2
    assert capsys.readouterr().err.endswith("did you mean `toy`?\n")


# --- run -------------------------------------------------------------------------------


def fake_run(outcome: Outcome) -> Callable[..., Outcome]:
    """A launcher that trains nothing: the trials are trained already."""

    def run(
        experiment: Experiment, _settings: Settings, events: Callable[[Any], None], _stop: object
    ) -> Outcome:
        events(SweepNote("MLflow answers again"))
        for trial in experiment.trials:
            events(TrialStarted(trial.cell, trial.seed, trial.key, 1.28))
            events(TrialFinished(trial.cell, trial.seed, trial.key, {"eval/fid": 1.5}, 2.0))
        return outcome

    return run


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Path]]:
    """What was handed to MLflow."""
    found: list[dict[str, Path]] = []

    def attach(_settings: Settings, _name: str, files: dict[str, Path], _tags: object) -> int:
        found.append(files)
        return 0

    monkeypatch.setattr("service.tracking.delivery.attach", attach)
    return found


def test_run_ends_with_table_verdict_report_and_the_mlflow_command(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    delivered: list[dict[str, Path]],
) -> None:
    monkeypatch.setattr(launch, "run", fake_run(Outcome("toy", finished=4, seconds=8.0)))

    assert invoke(["run", "x.yaml"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: 2 cells x 2 seeds = 4 trials, eval/fid against `uniform`"
    assert sum("finished in 2 s  eval/fid 1.5" in line for line in lines) == 4
    assert "4 trials trained in 8 s" in lines
    report = folder / "runs" / "experiments" / "toy" / "report.html"
    assert any(line.startswith("verdict: ") for line in lines)
    assert f"report:  {report}" in lines
    assert lines[-1].startswith("MLflow:  mlflow ui --backend-store-uri sqlite:////")
    assert f"{folder}/runs/mlflow.db" in lines[-1]
    assert report.stat().st_size > 10_000
    assert delivered == [{"report.html": report}]


@pytest.mark.usefixtures("folder", "delivered")
def test_trials_that_were_stopped_early_are_counted_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome("toy", finished=18, ended_early=12, skipped=2, seconds=8.0)
    monkeypatch.setattr(launch, "run", fake_run(outcome))
    assert invoke(["run", "x.yaml"]) == 0
    told = "18 trials trained in 8 s, 12 stopped early, 2 were finished already"
    assert told in capsys.readouterr().out.splitlines()


def test_failed_trials_end_with_exit_code_1_and_their_reasons(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    delivered: list[dict[str, Path]],
) -> None:
    key = Experiment.from_yaml("x.yaml").trials[3].key
    failure = Failure("under", 1, key, "its process was lost", "/logs/error.txt")
    outcome = Outcome("toy", finished=3, failed=[failure], seconds=8.0)
    monkeypatch.setattr(launch, "run", fake_run(outcome))

    assert invoke(["run", "x.yaml", "-o", "compare.margin=0.05"]) == 1

    text = capsys.readouterr().out
    assert "FAILED: under seed 1: its process was lost (log: /logs/error.txt)" in text
    assert "verdict: " in text
    assert text.splitlines()[-1] == "continue: diffsweep run x.yaml -o compare.margin=0.05"
    assert delivered


def test_an_interrupted_run_says_how_to_continue(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    delivered: list[dict[str, Path]],
) -> None:
    monkeypatch.setattr(launch, "run", fake_run(Outcome("toy", finished=1, interrupted=True)))

    assert invoke(["run", "x.yaml"]) == 130

    lines = capsys.readouterr().out.splitlines()
    assert any("then interrupted: nothing is lost" in line for line in lines)
    assert lines[-1] == "continue: diffsweep run x.yaml"
    assert delivered


def test_run_as_json_keeps_stdout_clean_and_hands_the_report_to_mlflow(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    delivered: list[dict[str, Path]],
) -> None:
    monkeypatch.setattr(launch, "run", fake_run(Outcome("toy", finished=4)))

    assert invoke(["run", "x.yaml", "--json"]) == 0

    printed = capsys.readouterr()
    data = json.loads(printed.out)
    assert data["outcome"]["finished"] == 4
    assert data["verdicts"]["baseline"] == "uniform"
    assert "finished in 2 s" in printed.err
    report = folder / "runs" / "experiments" / "toy" / "report.html"
    assert data["report"] == str(report)
    assert delivered == [{"report.html": report}]


@pytest.mark.usefixtures("delivered")
def test_what_to_type_next_carries_the_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "run", fake_run(Outcome("toy", finished=1, interrupted=True)))

    assert invoke(["run", "x.yaml", "--home", "mine"]) == 130
    assert capsys.readouterr().out.endswith("continue: diffsweep run x.yaml --home mine\n")


@pytest.mark.usefixtures("delivered")
def test_a_second_experiment_of_one_name_is_noted_and_an_extension_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "run", fake_run(Outcome("toy", finished=4)))
    home = folder / "runs" / "experiments" / "toy"
    save(Experiment.from_yaml("x.yaml"), home)

    def notes(*options: str) -> list[str]:
        assert invoke(["run", "x.yaml", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if "other cells before" in line]

    assert notes() == notes("-o", "seeds=3") == []
    assert notes("-o", "arms.more={optimizer.lr: 1e-3}") == []
    assert notes("-o", "evaluation.batch_size=99") == [], "the numbers are the same"
    assert notes("-o", "train.kimg=2.56") == [
        "note: toy was run with other cells before; its MLflow experiment and report will show the "
        "present ones; use another name to keep both"
    ]
    (home / "experiment.json").write_text("[")
    assert notes() == []


@pytest.mark.ray
@pytest.mark.slow
def test_run_for_real_and_again(folder: Path) -> None:
    command = ("-m", "service", "run", "x.yaml", "--home", "real")

    first = python(*command, cwd=folder)
    again = python(*command, cwd=folder)

    assert first.returncode == 0, first.stdout + first.stderr
    assert "4 trials trained in" in first.stdout
    assert again.returncode == 0, again.stderr
    assert "0 trials trained" in again.stdout
    assert again.stdout.count("already finished") == 4
    verdicts = [
        line
        for text in (first.stdout, again.stdout)
        for line in text.splitlines()
        if "verdict: " in line
    ]
    assert len(verdicts) == 2
    assert verdicts[0] == verdicts[1]


def test_every_command_is_a_verb_of_the_app() -> None:
    names = {
        command.callback.__name__ for command in cli.app.registered_commands if command.callback
    }

    assert names == set(VERBS)
