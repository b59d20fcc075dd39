"""What systemd, slurm, Kubernetes and a closed terminal send ends a run as Ctrl-C does, whenever it comes."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from service import signals
from service.settings import Settings
from service.tracking.readback import read_sweep
from tests.service.driver import Command, Driver, gone
from tests.service.sweeps import ROOT, final_metrics, sweep, wait_for, write

pytestmark = pytest.mark.fault
PATIENT = {"DIFFSWEEP_TRACKING_PATIENCE_S": "120"}
"""On a machine at work, making MLflow's database takes longer than a run waits at its end."""
LONG = {"train.kimg": 192.0, "evaluation.evaluations": 24}


@pytest.fixture
def yaml(toy: dict[str, Any], tmp_path: Path) -> Path:
    """Two trials of some seconds of training."""
    return write(sweep(toy, seeds=1, set=LONG, launcher="inproc"), tmp_path)


def statuses(home: Path) -> set[str]:
    settings = Settings(home=home, tracking_uri=None)
    return {trial["status"] for trial in read_sweep(settings, "toy").trials}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "times"), [(signal.SIGTERM, 1), (signal.SIGTERM, 3), (signal.SIGUSR1, 1)]
)
def test_what_asks_a_run_to_end_does_so_like_ctrl_c_however_often_it_comes(
    kind: signal.Signals, times: int, yaml: Path, tmp_path: Path, drivers: list[Driver]
) -> None:
    """SIGTERM, and what `sbatch --signal=USR1@60` sends, of which Tune makes an end of its own."""
    run = Command(tmp_path / "home", yaml, **PATIENT)
    drivers.append(run)
    run.until(" 8 of 192 kimg")
    family = run.family()
    asked = threading.Event()

    def ask() -> None:
        for _ in range(times):
            for one in family if kind == signal.SIGUSR1 else ():  # slurm tells every process
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(kind)
            run.process.send_signal(kind)
            asked.wait(1.0)  # the next one meets it at another place of its way out

    asking = threading.Thread(target=ask)
    asking.start()
    code, said = run.ending()
    asked.set()
    asking.join()
    assert code == 130, said
    assert "then interrupted: nothing is lost" in said
    assert "\ncontinue: " in said
    assert "Traceback" not in said
    assert "***" not in said, "no dump of a stack"
    wait_for(lambda: gone(family), "every process to end", 20)
    assert statuses(tmp_path / "home") == {"stopped"}


@pytest.mark.ray
@pytest.mark.slow
def test_sigterm_while_ray_starts_ends_like_ctrl_c(
    yaml: Path, tmp_path: Path, drivers: list[Driver]
) -> None:
    run = Command(tmp_path / "home", yaml)
    drivers.append(run)

    def starting() -> list[psutil.Process]:
        return [one for one in run.family() if "gcs_server" in one.name()]

    wait_for(starting, "the first process of Ray")
    family = run.family()
    run.process.send_signal(signal.SIGTERM)
    code, said = run.ending()
    assert code == 130, said
    assert "0 trials trained" in said
    assert "\ncontinue: " in said
    assert "Traceback" not in said
    assert "***" not in said
    wait_for(lambda: gone(family), "every process to end", 20)
    assert not final_metrics(tmp_path / "home")


@pytest.mark.ray
@pytest.mark.slow
def test_a_closed_terminal_ends_it_with_its_bookkeeping_done(yaml: Path, tmp_path: Path) -> None:
    """The run leads the session of the terminal, as a shell's `exec` would let it."""
    home, ours = tmp_path / "home", pty.openpty()
    command = [sys.executable, "-m", "service", "run", str(yaml), "--home", str(home)]
    lead = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", lead, *command], cwd=ROOT, start_new_session=True, env={**os.environ, **PATIENT},
        stdin=ours[1], stdout=ours[1], stderr=ours[1],
    )  # fmt: skip
    os.close(ours[1])
    shown = threading.Thread(target=_drain, args=(ours[0],), daemon=True)
    shown.start()
    try:
        wait_for(lambda: len(list(home.glob("trials/*/checkpoint-*"))) > 1, "some training")
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGHUP)
        assert process.wait(180) == 130
    finally:
        process.kill()
        process.wait(10)
        os.close(ours[0])
    wait_for(lambda: gone(family), "every process to end", 20)
    assert statuses(home) == {"stopped"}
    assert (home / "experiments" / "toy" / "report.html").exists()


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:
        return


def test_the_first_signal_raises_once_and_later_ones_are_ignored() -> None:
    stop = threading.Event()
    with signals.interruptible(stop):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_is_written_at_the_end_is_not_interrupted_and_the_next_phase_sees_stop() -> None:
    stop = threading.Event()
    with signals.interruptible(stop):
        signals.ending()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        with signals.interruptible(threading.Event()):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_nohup_is_respected_and_foreign_handlers_come_back() -> None:
    heard: list[int] = []

    def foreign(kind: int, _frame: object) -> None:
        heard.append(kind)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, foreign)
    try:
        stop = threading.Event()
        with signals.interruptible(stop):
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "shell", ["{} | head -1; exit ${{PIPESTATUS[0]}}", "exec {} >&-", "exec {} >&- 2>&-"]
)
def test_a_run_whose_words_nobody_reads_trains_to_its_end(
    shell: str, toy: dict[str, Any], tmp_path: Path
) -> None:
    yaml, home = write(sweep(toy, seeds=1), tmp_path), tmp_path / "home"
    run = f"{sys.executable} -m service run {yaml} --home {home}"
    done = subprocess.run(
        ["bash", "-c", shell.format(run)], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(final_metrics(home)) == 2


@pytest.mark.parametrize("after_s", [0.1, 0.3])
def test_ctrl_c_before_there_is_anything_to_tell_ends_in_silence(
    after_s: float, yaml: Path, tmp_path: Path
) -> None:
    """While modules are loaded the signal ends the process; after that, one line does."""
    run = subprocess.Popen(
        [sys.executable, "-m", "service", "run", str(yaml), "--home", str(tmp_path / "home")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(after_s)
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode in (130, -signal.SIGINT), told
    assert str(ROOT / "service") not in told, "no traceback of ours"
