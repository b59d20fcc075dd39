"""Proves that a model that left as a diffusers folder comes back as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.exchange.models import labelled, spec, trained
from trainer.errors import UserError
from trainer.exchange.card import Story
from trainer.exchange.incoming import take_in
from trainer.exchange.pipeline import export
from trainer.exchange.returning import is_folder_of_diffusers, origin_of
from trainer.trained import Trained
from trainer.trial import TrialSpec

DDPM: dict[str, Any] = {"layout": "ddpm", "embedding": 8, "attention": [0]}
CASES = {
    "table of angles": labelled(model=DDPM),
    "sinusoids of time": spec(
        model=DDPM | {"resample": "residual"}, diffusion={"conditioning": "time"}
    ),
    "fewer sinusoids": spec(model=DDPM | {"embedding": 6, "heads": 1}),
    "own code": labelled(),
    "own code, flow": spec(
        diffusion={"prediction": {"kind": "flow"}, "schedule": {"kind": "interpolant"}}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_comes_back_as_it_left(name: str, tmp_path: Path) -> None:
    before = Trained.load(trained(CASES[name], tmp_path / "trial"), "cpu")
    export(before, tmp_path / "out", Story("x"))
    assert is_folder_of_diffusers(tmp_path / "out")
    trial = origin_of(tmp_path / "out")
    assert trial == before.trial
    assert trial is not None
    assert take_in(tmp_path / "out", trial, tmp_path / "again") == []
    after = Trained.load(tmp_path / "again", "cpu")
    assert after.codec == before.codec
    assert after.fingerprint == before.fingerprint
    ours, theirs = before.network.state_dict(), after.network.state_dict()
    for key, value in ours.items():
        # a layer that was turned and turned back: float32 rounding
        torch.testing.assert_close(theirs[key], value, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(after.sample(2), before.sample(2), rtol=0.0, atol=0.13)


LEARNED = spec(
    diffusion={
        "schedule": {"kind": "learned", "log_snr_max": 9.0, "log_snr_min": -6.0},
        "conditioning": "log_snr",
    }
)


def test_what_the_schedule_learned_comes_back(tmp_path: Path) -> None:
    before = Trained.load(trained(LEARNED, tmp_path / "trial"), "cpu")
    with torch.no_grad():  # as after a longer training
        next(each for name, each in before.learned.items() if name.startswith("schedule.")).add_(
            1.0
        )
    export(before, tmp_path / "out", Story("x"))
    take_in(tmp_path / "out", LEARNED, tmp_path / "again")
    after = Trained.load(tmp_path / "again", "cpu")
    assert set(after.learned) == set(before.learned)
    for name, value in before.learned.items():
        assert torch.equal(after.learned[name], value)
    times = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
    with torch.no_grad():
        at_start = LEARNED.diffusion.schedule.log_snr(times)
        assert not torch.allclose(after.diffusion.schedule.log_snr(times), at_start, atol=0.1)


def test_a_learned_schedule_that_stayed_behind_is_refused(tmp_path: Path) -> None:
    export(Trained.load(trained(LEARNED, tmp_path / "trial"), "cpu"), tmp_path / "out", Story("x"))
    (tmp_path / "out" / "diffsweep.safetensors").unlink()
    with pytest.raises(UserError, match="does not say what"):
        take_in(tmp_path / "out", LEARNED, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_variance_that_stayed_behind_is_told(tmp_path: Path) -> None:
    trial = spec(model=DDPM, diffusion={"objective": {"kind": "hybrid"}})
    before = Trained.load(trained(trial, tmp_path / "trial"), "cpu")
    export(before, tmp_path / "out", Story("x"))
    (note,) = take_in(tmp_path / "out", trial, tmp_path / "again")
    assert "learned variance stayed behind" in note
    after = Trained.load(tmp_path / "again", "cpu")
    torch.testing.assert_close(after.sample(2), before.sample(2), rtol=0.0, atol=0.13)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    before = Trained.load(trained(spec(model=DDPM), tmp_path / "trial"), "cpu")
    export(before, tmp_path / "out", Story("x"))
    wider = spec(model=DDPM | {"channels": [16, 16]})
    with pytest.raises(UserError, match="does not fit"):
        take_in(tmp_path / "out", wider, tmp_path / "again")
    dit = TrialSpec.model_validate(
        spec().model_dump(mode="json")
        | {"model": {"kind": "dit", "width": 16, "heads": 2, "depth": 1}}
    )
    with pytest.raises(UserError, match="use kind: diffusers_unet"):
        take_in(tmp_path / "out", dit, tmp_path / "again")
    (tmp_path / "out" / "diffsweep.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        origin_of(tmp_path / "out")
    config = tmp_path / "out" / "unet" / "config.json"
    config.write_text(json.dumps({"_class_name": "UNet1DModel"}))
    with pytest.raises(UserError, match="UNet1DModel is another network"):
        take_in(tmp_path / "out", spec(model=DDPM), tmp_path / "again")
    assert origin_of(tmp_path) is None
    assert not is_folder_of_diffusers(tmp_path)
