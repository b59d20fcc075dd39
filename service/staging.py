"""What is sent to a cluster? The code beside this file and the experiment, in a folder; a command line; variables."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError
from trainer.errors import InputError
from trainer.yaml.source import read
from trainer.yaml.writer import yaml_document

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SENT = ("trainer", "service", "dashboards", "experiments", "pyproject.toml")
"""What of the checkout (or of site-packages) goes to the cluster."""
_OF_HERE = ("DIFFSWEEP_RAY_ADDRESS", "DIFFSWEEP_TRACKING_URI")
"""The job is inside its cluster; the tracking server is sent under MLflow's name."""
TIME_TO_END = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
"""Ray kills a job 3 s after it was asked to stop: too soon for what was reported to reach the tracking server."""
_OF_THIS_MACHINE = ("DIFFSWEEP_SCRATCH",)
_SECRET = ("DIFFSWEEP_WEBHOOK",)
"""Ray writes a job's variables into its logs: whoever wants them there gives them with `--env`."""
_STORES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
_PATHS = ("DIFFSWEEP_HOME", "DIFFSWEEP_DATA")
_LOCAL_STORES = ("sqlite:", "file:", "/", ".")
_LONGEST = 30_000
"""Characters of an experiment that Ray keeps with its job: it hands them to the driver as a variable."""


def metadata(experiment: Experiment) -> dict[str, str]:
    """What Ray keeps of the experiment with its job: the name, and what it takes to read it anywhere."""
    known = {"experiment": experiment.name}
    whole = yaml_document(experiment.whole)
    if len(whole) <= _LONGEST:
        known |= {"yaml": whole, "options": json.dumps(_own_options(experiment.options))}
    return known


def check_sendable(experiment: Experiment) -> None:
    """ServiceError for one that was restored from records: they hold what it means, not what to send."""
    if not experiment.whole:
        raise ServiceError(
            f"{experiment.name} was read from its records, which hold no YAML to send",
            "submit its YAML file: Experiment.from_yaml(FILE)",
        )


def _own_options(options: tuple[str, ...]) -> list[str]:
    """The sent file has a preset that an option named written out."""
    return [option for option in options if option.partition("=")[0].strip() != "base"]


def entrypoint(
    file: str,
    options: tuple[str, ...],
    python: str = "python",
    what: tuple[str, ...] = ("service", "run"),
) -> str:
    """The job's command line, by the interpreter of that name there."""
    words = [python, "-m", *what, file]
    for option in _own_options(options):
        words += ["-o", option]
    return shlex.join(words)


def variables(settings: Settings, env: Mapping[str, str] | None) -> dict[str, str]:
    """What the job gets: this shell's own variables, the tracking server, and `env`, which wins.

    What means something on this machine only stays here: defaults, relative paths, local databases.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("DIFFSWEEP_") and name not in _OF_HERE and _travels(name, value)
    }
    if settings.remote is not None:  # where the store is; who asks it, each node knows by itself
        own |= {name: os.environ[name] for name in _STORES if os.environ.get(name)}
    tracking = settings.tracking_uri
    if tracking and not tracking.startswith(_LOCAL_STORES):
        own["MLFLOW_TRACKING_URI"] = tracking
    return {**TIME_TO_END, **own, **(env or {})}


def stays(env: Mapping[str, str] | None) -> list[str]:
    """Secrets of this shell that the job does not get."""
    return [name for name in _SECRET if os.environ.get(name) and name not in (env or {})]


def _travels(name: str, value: str) -> bool:
    if name in _PATHS:
        return value.startswith(("/", "~")) or ("://" in value and not value.startswith("file:"))
    return bool(value) and name not in (*_OF_THIS_MACHINE, *_SECRET)


@contextlib.contextmanager
def code() -> Iterator[Path]:
    """A folder with the code alone: no data, results or environments that lie beside it."""
    with tempfile.TemporaryDirectory(prefix="diffsweep-") as scratch:
        folder = Path(scratch) / "diffsweep"
        folder.mkdir()
        for name in SENT:
            source = ROOT / name
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(source, folder / name, ignore=ignore)
            elif source.exists():
                shutil.copy2(source, folder / name)
        yield folder


@contextlib.contextmanager
def staged(experiment: Experiment) -> Iterator[tuple[Path, str]]:
    """A folder with the code and the experiment, and the experiment's path in it."""
    with code() as folder:
        yield folder, _place(experiment, folder)


def _says(file: Path, whole: Mapping[str, Any], folder: Path) -> bool:
    """Whether a sent file, with its preset, is this experiment to the letter."""
    data = read(file).data
    base = data.get("base") if isinstance(data, dict) else None
    if isinstance(base, str):
        preset = (file.parent / base).resolve()
        if not preset.is_relative_to(folder.resolve()):
            return False
        data = {**data, "base": read(preset).data}
    return isinstance(data, dict) and yaml_document(data) == yaml_document(whole)


def _place(experiment: Experiment, folder: Path) -> str:
    """The experiment's YAML in the folder: its own file if that means the same there, else one written for it."""
    assert experiment.whole, "see `check_sendable`"
    original = experiment.folder / Path(experiment.file).name
    with contextlib.suppress(ValueError, OSError, InputError):
        path = original.resolve().relative_to(ROOT)
        if _says(folder / path, experiment.whole, folder):
            return str(path)
    path = Path(f"{experiment.name}.yaml")
    (folder / path).write_text(yaml_document(experiment.whole), encoding="utf-8")
    return str(path)
