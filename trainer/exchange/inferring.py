"""Of which trial is a diffusers folder from elsewhere? As much as its configs say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from trainer.diffusion.process import Diffusion
from trainer.errors import UserError
from trainer.exchange.agreement import same_levels
from trainer.exchange.foreign import Scheduler, config_of, network_folder, scheduler_of
from trainer.exchange.levels import PREDICTIONS, Table
from trainer.trial import TrialSpec

_NOBODY = "data-of-the-imported-model"
"""Where the data would lie: the folder says only what one example looks like."""
_KINDS = {"linear": "linear_beta", "scaled_linear": "scaled_linear_beta"}


def inferred(folder: Path) -> TrialSpec:
    """A trial of `kind: diffusers_unet` on the levels of the folder's scheduler; UserError says what is missing."""
    place = network_folder(folder)
    assert place is not None, "a folder of diffusers"
    config, said = config_of(place), scheduler_of(folder)
    if config["_class_name"] != "UNet2DModel":
        raise _missing(folder, f"its network is a {config['_class_name']}")
    if said is None:
        raise _missing(folder, "it has no scheduler with betas, so nobody knows its noise levels")
    kinds = {theirs: ours for ours, theirs in PREDICTIONS.items()}
    if said.prediction not in kinds:
        raise _missing(folder, f"{said.file} says prediction_type: {said.prediction}")
    if config.get("in_channels") != config.get("out_channels"):
        raise _missing(
            folder,
            f"{config.get('out_channels')} channels of {config.get('in_channels')} leave it, so it learned a variance "
            "or is told an image",
        )
    diffusion = {
        "schedule": _schedule(folder, said),
        "prediction": {"kind": kinds[said.prediction]},
        "conditioning": "step",
    }
    clips = bool(said.config.get("clip_sample", True) or said.config.get("thresholding"))
    steps = min(50, len(said.alpha_squared))
    full = {
        "images": 10_000,
        "steps": steps,
        "solver": {"kind": "ddim"},
        "grid": None,
        "clip": clips,
    }
    trial = {
        "data": _data(folder, config),
        "model": {"kind": "diffusers_unet", "config": config},
        "diffusion": diffusion,
        "train": {"kimg": 0.001, "batch_size": 1},
        "evaluation": {"features": {"kind": "pixels"}, "full": full},
    }
    try:
        return TrialSpec.model_validate(trial)
    except ValidationError as error:
        raise _missing(folder, str(error.errors()[0]["msg"])) from None


def _missing(folder: Path, what: str) -> UserError:
    return UserError(
        f"{folder}: {what}: write the trial that the weights are of, and name it with --as"
    )


def _data(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    size, channels = config.get("sample_size"), config.get("in_channels", 3)
    if size is None:
        raise _missing(folder, "its config says no sample_size")
    data = {"path": _NOBODY, "size": size, "flip": False}
    if channels in (1, 3):
        return {"kind": "image_folder", "grayscale": channels == 1, **data}
    return {"kind": "npz", "channels": channels, **data}


def _schedule(folder: Path, said: Scheduler) -> dict[str, Any]:
    """The schedule of ours whose table is the scheduler's."""
    for schedule in _candidates(said):
        try:
            table = Table.of(Diffusion.model_validate({"schedule": schedule}))
        except ValidationError:
            continue
        if same_levels(said.alpha_squared, torch.sigmoid(table.log_snr)):
            return schedule
    raise _missing(
        folder, f"no schedule here has the noise levels of {said.file} (beta_schedule: {said.name})"
    )


def _candidates(said: Scheduler) -> Iterator[dict[str, Any]]:
    steps = len(said.alpha_squared)
    plain: dict[str, Any] = {"kind": "cosine"}
    if said.name in _KINDS:
        ends = {name: said.config.get(name, usual) for name, usual in _ENDS.items()}
        plain = {"kind": _KINDS[said.name], **ends, "rescale": False}
    yield plain | {"steps": steps}
    yield {"kind": "modified", "of": plain, "zero_terminal_snr": True, "steps": steps}


_ENDS = {"beta_start": 1e-4, "beta_end": 0.02}
