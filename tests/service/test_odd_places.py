"""A home of odd letters, a terminal of few, and a user whom nobody knows: a sweep ends as it does anywhere else."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Settings
from tests.service.toy_experiment import EXPERIMENT, TOY
from trainer.errors import Problem

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["a b", "#", "100%", "a%20b?c=d&e#f", "é"])
def test_the_address_of_the_database_is_that_of_the_file(tmp_path: Path, name: str) -> None:
    from sqlalchemy import create_engine, text

    settings = Settings(home=tmp_path / name, tracking_uri=None)
    settings.prepare()
    with create_engine(settings.store_uri).begin() as connection:
        connection.execute(text("CREATE TABLE here (x INTEGER)"))
    with sqlite3.connect(settings.database) as found:
        assert found.execute("SELECT name FROM sqlite_master").fetchall() == [("here",)]
    assert sorted(tmp_path.iterdir()) == [settings.home]


def test_a_message_moves_no_cursor() -> None:
    problem = Problem("\x1b]0;owned\x07.yaml", 3, "arms.\u202e", "a\x1b[2J\tb\r\n  é")
    assert str(problem) == "\\x1b]0;owned\\x07.yaml:3: arms.\\u202e: a\\x1b[2J    b\\r\n  é"


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_of_nobody_on_an_ascii_terminal_in_an_odd_home(tmp_path: Path) -> None:
    """uid 12345 has no entry and no HOME, as in a container; without user namespaces it is this user without HOME."""
    home = tmp_path / "homes" / "a b#c%20d?e=é"
    home.mkdir(parents=True)
    (tmp_path / "toy.yaml").write_text(TOY)
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    nobody = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    can = shutil.which("unshare") and not subprocess.run([*nobody, "true"], capture_output=True).returncode  # fmt: skip
    done = subprocess.run(
        [*(nobody if can else []), sys.executable, "-m", "service", "run", "x.yaml", "--home", str(home)],
        cwd=tmp_path, capture_output=True, timeout=400, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"records wait" not in done.stdout + done.stderr
    assert (home / "mlflow.db").stat().st_size > 10_000
    assert list(home.parent.iterdir()) == [home]
