"""A real run on a real Ray in a terminal of 80 columns: the table moves while a trial trains, and not in red."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from pathlib import Path

import pytest

from tests.service.toy_experiment import EXPERIMENT, TOY

COLUMNS = 80


def terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code of a command in a terminal, and every byte that it drew."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(command[0], command, environment)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, COLUMNS, 0, 0))
    drawn, over = b"", False
    try:
        while not over:
            try:
                more = os.read(master, 65536)
            except OSError:  # the other end is closed
                more = b""
            drawn, over = drawn + more, not more
    finally:
        os.close(master)
        if not over:
            os.kill(pid, signal.SIGTERM)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), drawn.decode(errors="replace")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_table_moves_with_training(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(
        TOY.replace("kimg: 1.28", "kimg: 192").replace("evaluations: 2", "evaluations: 1")
    )
    (tmp_path / "x.yaml").write_text(EXPERIMENT.replace("seeds: 2", "seeds: 1"))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "COLUMNS", "LINES")
    }
    root = str(Path(__file__).parents[2])
    environment = {
        **kept,
        "TERM": "xterm-256color",
        "PYTHONPATH": root,
        "DIFFSWEEP_HOME": str(tmp_path / "runs"),
    }
    command = [sys.executable, "-m", "service", "run", "x.yaml"]

    code, drawn = terminal(command, tmp_path, environment)

    assert code == 0, drawn[-3000:]
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    seen = {float(kimg) for kimg in re.findall(r"running +([0-9.]+)/192", plain)}
    assert len(seen - {0.0, 192.0}) >= 2, plain[-3000:]  # the only evaluation is at the end
    assert re.search(r"running +[0-9.]+/192 +[0-9.,]+ +[0-9.]+", plain)  # img/s and loss
    assert "left;" in plain
    painted = [line for line in drawn.splitlines() if "running" in line and "/192" in line]
    assert painted
    assert not any(
        re.search(r"\x1b\[(?:1;)?31m|38;2;249;38;114|38;5;197", line) for line in painted
    )
    table = [line for line in plain.splitlines() if re.search(r"^(cell|uniform|under) ", line)]
    assert max(map(len, table)) <= COLUMNS
