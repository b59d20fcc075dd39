"""Presets that come with diffsweep are found by name from any folder; what lies beside a YAML comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import InputError
from trainer.presets import located, presets, refusal, shipped

DIGITS = Path(__file__).parents[2] / "experiments" / "presets" / "digits.yaml"


@pytest.mark.parametrize("name", ["digits", "digits.yaml", "presets/digits.yaml", "presets/digits"])
def test_a_preset_has_a_name(name: str, tmp_path: Path) -> None:
    assert shipped(name) == DIGITS
    assert located(name, tmp_path) == DIGITS
    assert refusal(name, tmp_path) is None


def test_what_lies_beside_comes_first(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("a: 1\n")
    assert located("digits", tmp_path) == tmp_path / "digits"


@pytest.mark.parametrize(
    "name",
    [
        "other/digits.yaml",
        "../presets/digits.yaml",
        "a/presets/digits.yaml",
        "/presets/digits.yaml",
    ],
)
def test_another_place_is_another_file(name: str) -> None:
    assert shipped(name) is None


def test_every_preset_is_listed_and_a_slip_is_told(tmp_path: Path) -> None:
    assert len(presets()) > 30
    assert "did you mean `digits`?" in str(refusal("digitz", tmp_path))
    assert "presets: `diffsched_oxford_flowers`, `digits`" in str(refusal("qqqq", tmp_path))


def test_a_preset_for_an_experiment_is_recognized_wherever_it_is_named(tmp_path: Path) -> None:
    from service.experiment import Experiment

    for name in ("digits", str(DIGITS)):
        with pytest.raises(
            InputError, match=r"is a trial, this command takes an experiment: train it alone"
        ):
            Experiment.from_yaml(name)
    (tmp_path / "part.yaml").write_text("data: {kind: digits}\ndiffusion: {}\noptimizer: {}\n")
    with pytest.raises(InputError, match="is a trial"):
        Experiment.from_yaml(tmp_path / "part.yaml")
    (tmp_path / "my.yaml").write_text("name: my\nbase: digits\nseeds: 6\n")
    assert Experiment.from_yaml(tmp_path / "my.yaml").cells[0].trial.data.kind == "digits"
