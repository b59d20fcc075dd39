"""A process that trains is killed: another one goes on, and the person reads neither tracebacks nor wrong numbers."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.cluster.ray_log import FILE, ray_log
from tests.service.by_hand import delivered, recorded, undisturbed
from tests.service.driver import Command, Driver
from tests.service.sweeps import final_metrics, sweep, wait_for, write

pytestmark = pytest.mark.fault
LONG = {"train.kimg": 192.0, "evaluation.evaluations": 24}


def at_work(run: Driver, launcher: str) -> list[psutil.Process]:
    """The processes that hold a model."""
    name = "RayTrainWorker" if launcher == "train" else "ray::ImplicitFunc"
    return [one for one in run.family() if name in " ".join([one.name(), *one.cmdline()])]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inproc", "train"])
def test_a_killed_worker_is_replaced_without_a_traceback_and_to_the_last_bit(
    launcher: str, toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    experiment = sweep(toy, seeds=1, set=LONG, launcher=launcher)
    yaml = write(experiment, tmp_path)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    run = Command(killed, yaml)
    drivers.append(run)
    run.until(" 8 of 192 kimg")
    wait_for(lambda: at_work(run, launcher), "a worker")[0].kill()
    code, said = run.ending()
    assert code == 0, said
    assert "Traceback" not in said
    assert "tune_controller" not in said
    assert "FAILED" not in said
    assert final_metrics(killed) == undisturbed(experiment, whole)
    assert delivered(killed, "rung/fid") == recorded(whole, "rung/fid"), (
        "each point once, those of the dead worker too"
    )
    if launcher == "inproc":
        assert "Traceback" in (killed / "experiments" / "toy" / FILE).read_text()


def test_what_ray_says_goes_to_a_file_and_to_the_handlers_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray  # sets up its own handler

    terminal = io.StringIO()
    for handler in logging.getLogger("ray").handlers:
        if type(handler).__module__.startswith("ray."):
            monkeypatch.setattr(handler, "stream", terminal)

    heard: list[str] = []

    class Foreign(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    speaker, other = logging.getLogger("ray.tune.some"), logging.getLogger("ray.serve")
    foreign = Foreign()
    logging.getLogger("ray").addHandler(foreign)
    try:
        with ray_log(tmp_path), ray_log(tmp_path / "absent"):  # the latter cannot be written
            speaker.error("broke")
            other.error("elsewhere")
        assert heard == ["broke", "elsewhere"]
        assert "broke" in (tmp_path / FILE).read_text()
        assert "elsewhere" not in (tmp_path / FILE).read_text()
        shown = terminal.getvalue()
        assert "elsewhere" in shown
        assert "broke" not in shown
        assert "Logging error" not in shown
        speaker.error("afterwards")
        assert "afterwards" in terminal.getvalue(), "all is as it was"
        assert ray.__version__
    finally:
        logging.getLogger("ray").removeHandler(foreign)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inproc", "train"])
def test_a_process_that_hangs_is_told_of_and_replaced_and_goes_on_from_its_checkpoint(
    launcher: str, toy: dict[str, Any], tmp_path: Path, drivers: list[Driver]
) -> None:
    """Stopped as by a disk that does not answer; it is never woken."""
    one = sweep(toy, seeds=1, set=LONG, arms={"uniform": {}}, launcher=launcher)
    run = Command(tmp_path / "home", write(one, tmp_path), DIFFSWEEP_SILENCE_S="2")
    drivers.append(run)
    run.until(" 16 of 192 kimg")
    (hung,) = at_work(run, launcher)
    hung.suspend()
    run.until("uniform seed 0: no sign of life since ")
    run.until("its process is replaced")
    run.until("uniform seed 0: continues at ")
    code, said = run.ending()
    assert code == 0, said
    assert "Traceback" not in said
    assert not hung.is_running()
    assert final_metrics(tmp_path / "home") == undisturbed(one, tmp_path / "whole")
