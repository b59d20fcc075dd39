"""A command imports what it needs: what was computed or measured before is said without torch, mistakes always are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.experiment import Experiment
from service.experiment.answers import Answers
from tests.service.toy_experiment import EXPERIMENT, TOY
from trainer.loop import train

HEAVY = (
    "torch",
    "pandas",
    "scipy",
    "scipy.stats",
    "sklearn",
    "ray",
    "mlflow",
    "plotly",
    "torchvision",
)
PROGRAM = """
import sys
from service.cli import main
try:
    main()
finally:
    loaded = sorted(name for name in {heavy} if name in sys.modules)
    print("LOADED", *loaded, file=sys.stderr)
"""


def loaded(folder: Path, *words: str) -> tuple[int, str, list[str]]:
    """Exit code, output, and the heavy packages that a command had imported when it ended."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": root, "DIFFSWEEP_HOME": str(folder / "runs")},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    *_, last = done.stderr.strip().splitlines()
    return done.returncode, done.stdout + done.stderr, last.split()[1:]


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text(TOY)
    (tmp_path / "x.yaml").write_text(EXPERIMENT + "controls: equal_objective\n")
    return tmp_path


@pytest.mark.slow
def test_validate_says_the_same_without_torch(toys: Path) -> None:
    """The first time computes the mathematics; from then on the answers are at hand."""
    code, first, _ = loaded(toys, "validate", "x.yaml")
    assert code == 0, first
    again = loaded(toys, "validate", "x.yaml")
    assert again[0] == 0
    assert "are the same objective" in again[1]
    assert again[2] == []
    wrong = (toys / "x.yaml").read_text().replace("gamma", "gama")
    (toys / "wrong.yaml").write_text(wrong)
    code, text, heavy = loaded(toys, "validate", "wrong.yaml")
    assert (code, heavy) == (2, [])
    assert "did you mean `gamma`?" in text
    said = [each.rsplit("LOADED", 1)[0] for each in (first, again[1])]
    assert said[0] == said[1]


@pytest.mark.slow
def test_what_was_timed_here_is_planned_without_torch(toys: Path) -> None:
    """The first time calibrates: steps of the network, and of the classifier that images are compared by."""
    text = (toys / "toy.yaml").read_text()
    text = text.replace("{kind: gaussians, examples: 256}", "{kind: digits}")
    text = text.replace(
        "{kind: mlp, width: 16, depth: 1}", "{kind: dit, width: 16, depth: 1, heads: 2, patch: 4}"
    )
    text = text.replace("{kind: pixels}", "{kind: classifier, steps: 60}")
    (toys / "toy.yaml").write_text(text)
    code, first, heavy = loaded(toys, "plan", "x.yaml")
    assert code == 0, first
    assert "torch" in heavy
    assert "to train the classifier" in first
    code, again, heavy = loaded(toys, "plan", "x.yaml")
    assert (code, heavy) == (0, [])
    assert first.rsplit("LOADED", 1)[0] == again.rsplit("LOADED", 1)[0]


@pytest.mark.slow
def test_results_are_read_without_torch(toys: Path) -> None:
    home = toys / "runs"
    for trial in Experiment.from_yaml(toys / "x.yaml", home=home).trials:
        list(train(trial.spec, home / "trials" / trial.key, cache=home / "cache", device="cpu"))
    for words, needed in (
        (("plan", "x.yaml"), []),
        (("compare", "x.yaml"), ["pandas", "scipy"]),
        (("report", "x.yaml"), ["pandas", "plotly", "scipy"]),
        (("show", "x.yaml", "--html", "passports.html"), ["pandas", "plotly"]),
    ):
        loaded(toys, *words)  # asks for what is kept from then on
        code, text, heavy = loaded(toys, *words)
        assert (code, heavy) == (0, needed), text


STARTING = """
import sys
from service import ahead
from service.cli import main
from service.progress import TrialStarted

def heard(show):
    def told(event):
        if isinstance(event, TrialStarted):
            loaded = sorted(name for name in {heavy} if name in sys.modules)
            print("STARTED", *loaded, file=sys.stderr)
        show(event)
    return told

ahead.read_ahead = heard
main()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_imports_only_what_starts_its_trials(toys: Path) -> None:
    """What MLflow and the report need comes later, and torch stays with those who train."""
    loaded(toys, "validate", "x.yaml")  # asks for what is kept from then on
    done = subprocess.run(
        [sys.executable, "-c", STARTING.format(heavy=(*HEAVY, "aiohttp", "ray.data")), "run", "x.yaml"],
        cwd=toys, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]),
        "DIFFSWEEP_HOME": str(toys / "runs")}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    started = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("STARTED")]
    assert started, done.stdout
    assert started[0] == ["pandas", "ray", "ray.data"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), 0),
        (("validate", "--help"), 0),
        (("schema",), 0),
        (("validate", "toy.yaml"), 2),
        (("validate", "absent.yaml"), 2),
    ],
)
def test_help_schema_and_what_is_no_experiment_need_none_of_it(
    toys: Path, words: tuple[str, ...], code: int
) -> None:
    ended, text, heavy = loaded(toys, *words)
    assert ended == code, text
    assert heavy == []


def test_an_answer_is_computed_once_and_again_for_other_specs(tmp_path: Path) -> None:
    calls: list[str] = []

    def compute() -> list[float]:
        calls.append("asked")
        return [0.1 + 0.2, 1e-300]

    for of in (["a"], ["a"], ["b"]):
        assert Answers(tmp_path).ask("q", of, compute) == [0.1 + 0.2, 1e-300]
    assert len(calls) == 2
    (kept, _) = (tmp_path / "cache" / "answers").glob("q-*.json")
    kept.write_text("{cut o")  # a damaged one is computed again
    for of in (["a"], ["b"]):
        Answers(tmp_path).ask("q", of, compute)
    assert len(calls) == 3
    assert json.loads(kept.read_text()) == [0.1 + 0.2, 1e-300]


def test_the_oldest_answers_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.experiment.answers._MOST", 8)
    folder, asked = tmp_path / "cache" / "answers", []

    def ask(number: int) -> object:
        def compute() -> int:
            asked.append(number)
            return number

        return Answers(tmp_path).ask("q", [str(number)], compute)

    for number in range(30):
        known = set(folder.glob("*"))
        assert ask(number) == number
        for file in set(folder.glob("*")) - known:
            os.utime(file, ns=(number, number))
        assert 1 <= len(list(folder.glob("*"))) <= 8
    assert [ask(29), ask(28)] == [29, 28]
    assert asked == list(range(30)), "the newest are kept"
    assert ask(0) == 0
    assert asked[-1] == 0, "the oldest is asked again"
