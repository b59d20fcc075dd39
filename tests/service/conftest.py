"""A small trained experiment in the working directory, for the tests of the command."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.experiment import Experiment
from service.settings import Settings
from tests.service.driver import Driver
from tests.service.toy_experiment import EXPERIMENT, TOY
from trainer.loop import train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the experiment and its trials, all trained."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "toy.yaml").write_text(TOY)
    (folder / "x.yaml").write_text(EXPERIMENT)
    settings = Settings(home=folder / "runs")
    for trial in Experiment.from_yaml(folder / "x.yaml").trials:
        list(train(trial.spec, settings.trial(trial.key), cache=settings.cache, device="cpu"))
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    beside = Path(sys.executable).parent  # as in an activated environment
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    for name in ("DIFFSWEEP_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "DIFFSWEEP_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    """Drivers to be added to; those that still run at the end are killed."""
    started: list[Driver] = []
    yield started
    for driver in started:
        if driver.process.poll() is None:
            driver.process.kill()
        driver.process.wait(10)
