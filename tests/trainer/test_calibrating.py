"""Proves that `precision: auto` is timed once for a device, chosen with a margin, and part of a trial from then on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.trainer.test_loop import trial
from trainer import calibrating
from trainer.__main__ import main
from trainer.calibrating import Chosen, asks, fastest, in_precision
from trainer.distributed import World
from trainer.errors import UserError
from trainer.record import Record
from trainer.training import Training

ALONE = World(0, 1)


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"), [(2.0, 1.0, "bf16"), (1.05, 1.0, "fp32"), (1.0, 2.0, "fp32")]
)
def test_bf16_has_to_be_a_tenth_faster(fp32: float, bf16: float, chosen: str) -> None:
    found = Chosen("CPU", {"fp32": fp32, "bf16": bf16})
    assert found.precision == chosen
    assert found.text().startswith(f"auto: {chosen}, an image takes ")


def test_it_is_timed_once_for_trials_that_cost_the_same(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = trial(toy, train__precision="auto")
    source = spec.data.load(Path())
    found = fastest(spec, source, tmp_path)
    assert set(found.seconds) == {"fp32", "bf16"}
    assert all(seconds > 0.0 for seconds in found.seconds.values())
    monkeypatch.setattr(calibrating, "_timed", lambda *_: pytest.fail("timed again"))
    longer = trial(toy, train__precision="auto", seed=3, train__kimg=5.12)
    assert fastest(longer, source, tmp_path) == found
    with pytest.raises(pytest.fail.Exception):
        fastest(trial(toy, train__precision="auto", model__width=48), source, tmp_path)


def test_a_trial_is_that_of_the_precision_that_was_chosen(toy: dict[str, Any]) -> None:
    auto, named = trial(toy, train__precision="auto"), trial(toy, train__precision="bf16")
    assert asks(auto)
    assert in_precision(auto, "bf16").key("data") == named.key("data")
    assert in_precision(named, "fp32") is named
    with pytest.raises(UserError, match="auto is chosen before"):
        Training(auto, auto.data.load(Path()), ALONE)


def test_a_trial_alone_chooses_for_itself(
    toy: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    toy["train"]["precision"] = "auto"
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(toy))
    command = [str(tmp_path / "t.yaml"), "--home", str(tmp_path / "home")]
    monkeypatch.setattr(calibrating, "_timed", lambda *_: {"fp32": 2.0, "bf16": 1.0})
    assert main(command) == 0
    assert "train.precision: auto: bf16" in capsys.readouterr().err
    kept = next((tmp_path / "home" / "trials").iterdir())
    known = Record(kept).trial()
    assert known is not None
    assert known.train.precision == "bf16"
    assert main(command) == 0
    assert "there is nothing left to train" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "0")
    assert main(command) == 2
    assert "write fp32 or bf16 under torchrun" in capsys.readouterr().err
