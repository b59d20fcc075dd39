"""Proves that finished trials keep their names: a change of any key is a failing test or a raised version."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments import keys

ROOT = Path(__file__).parents[2]


def test_no_key_and_no_protocol_has_changed() -> None:
    before, now = json.loads(keys.TABLE.read_text()), keys.table()
    hint = "run `python -m tests.experiments.keys`, which says what to do"
    assert keys.changed(before, now) == [], hint
    assert before == now, hint


WIDENED = {
    "trainer/optimizer/base.py": (
        '    grad_clip: Clip | None = 1.0\n',
        '    lookahead: Annotated[int, Neutral({neutral})] = {default}\n    grad_clip: Clip | None = 1.0\n',
    ),
    "trainer/trial.py": (
        "    seed: Seed",
        '    swa: Annotated[bool, Neutral(False)] = False\n    """Also."""\n    seed: Seed',
    ),
}  # fmt: skip
"""A field of a nested spec and one of the trial itself, as a later version would add them."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("neutral", "default", "renamed"),
    [(0, 0, False), (0, 5, True)],
    ids=["its neutral value is the default", "new trials get another value"],
)
def test_widening_a_spec_renames_only_what_is_different(
    tmp_path: Path, neutral: int, default: int, renamed: bool
) -> None:
    """In a copy of the packages: every preset and the quickstart."""
    for package in ("trainer", "service", "dashboards", "experiments", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    for name, (before, after) in WIDENED.items():
        file = tmp_path / name
        text = file.read_text().replace(
            "from trainer.spec import Spec\n", "from trainer.spec import Neutral, Spec\n"
        )
        assert before in text
        after = after.format(neutral=neutral, default=default) if "{neutral}" in after else after
        file.write_text(text.replace(before, after, 1))
    finished = subprocess.run(
        [sys.executable, "-m", "tests.experiments.keys"], cwd=tmp_path, timeout=240, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == (1 if renamed else 0), finished.stdout + finished.stderr
    table = tmp_path / "tests" / "experiments" / "keys.json"
    assert table.read_text() == keys.TABLE.read_text()
    if renamed:
        assert "raise CORE_VERSION" in finished.stdout
        assert "declare a Neutral value" in finished.stdout


@pytest.mark.slow
def test_another_default_is_noticed(tmp_path: Path) -> None:
    """Without a version, a changed default is a failing test; with one, the table is written again."""
    for package in ("trainer", "service", "dashboards", "experiments", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)

    def write_table() -> int:
        return subprocess.run(
            [sys.executable, "-m", "tests.experiments.keys"], cwd=tmp_path, timeout=240, check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        ).returncode  # fmt: skip

    optimizer = tmp_path / "trainer" / "optimizer" / "adaptive.py"
    code = optimizer.read_text()
    assert "eps: Epsilon = 1e-8" in code
    optimizer.write_text(code.replace("eps: Epsilon = 1e-8", "eps: Epsilon = 1e-7"))
    assert write_table() == 1
    version = tmp_path / "trainer" / "__init__.py"
    version.write_text(version.read_text().replace("CORE_VERSION = ", "CORE_VERSION = 'next' + "))
    assert write_table() == 0
