"""Four hundred YAMLs that nobody means: each is refused in plain words, or is a sane experiment, in bounded time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.mutants import MEMORY, ROOT, SECONDS, mutants

SEED, COUNT = 20_261, 400
ENDLESS = "churn_max"
"""Its default stands for no end."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """How every mutant ended, in a process of its own with a limit of memory; the last one says how much it took."""
    folder = tmp_path_factory.mktemp("mutants")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DIFFSWEEP_HOME": str(folder / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.service.mutants", str(SEED), str(COUNT), str(folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(ending: dict[str, Any]) -> list[str]:
    """What is not as it should be about one ending."""
    said, found = ending["said"], []
    if ending["code"] not in (0, 2):
        found.append(f"ends with {ending['code']}")
    if ending["code"] == 2 and not said.strip():
        found.append("says nothing")
    if "Traceback" in said:
        found.append("has a traceback")
    if not all(c.isprintable() or c == "\n" for c in said):
        found.append("says what moves the cursor")
    if ending["seconds"] > SECONDS:
        found.append(f"takes {ending['seconds']:.0f} s")
    for place, number in ending.get("numbers", {}).items():
        is_seed, is_endless = "seed" in place, place.endswith(ENDLESS)
        if number and not (is_seed or is_endless or 1e-12 <= abs(number) <= 1e9):
            found.append(f"accepts {place}: {number}")
    return [f"{ending['what']} {ending['file']} {one}: {said[:200]}" for one in found]


def test_each_is_refused_in_plain_words_or_is_a_sane_experiment(
    ended: list[dict[str, Any]],
) -> None:
    *endings, total = ended
    assert len(endings) == COUNT
    assert [line for ending in endings for line in wrong(ending)] == []
    assert total["memory"] < MEMORY
    refused = [ending for ending in endings if ending["code"] == 2]
    assert len(refused) > 0.7 * COUNT
    assert len(refused) < COUNT, "some mutations change nothing: they show that the rest is right"


def test_the_mutants_are_the_same_every_time_and_different_from_each_other() -> None:
    made = list(mutants(SEED, 60))
    assert made == list(mutants(SEED, 60))
    assert len({content for _, content in made}) > 50


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ({"code": "KeyError: 'a'"}, "ends with KeyError"),
        ({"said": ""}, "says nothing"),
        ({"said": "\x1b[31m"}, "moves the cursor"),
        ({"seconds": 11.0}, "takes 11 s"),
        ({"code": 0, "numbers": {"optimizer.lr": 1e300}}, "accepts optimizer.lr"),
    ],
)
def test_what_is_wrong_is_seen(ending: dict[str, Any], told: str) -> None:
    right = {"what": "it", "file": "x", "code": 2, "said": "no", "seconds": 1.0}
    assert wrong(right) == []
    (line,) = wrong(right | ending)
    assert told in line


def test_the_originals_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.experiment import Experiment
    from tests.service.mutants import texts

    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "home"))
    shutil.copytree(ROOT / "experiments" / "presets", tmp_path / "presets")
    for name, text in texts().items():
        (tmp_path / f"{name}.yaml").write_text(text)
        assert Experiment.from_yaml(tmp_path / f"{name}.yaml").cells
