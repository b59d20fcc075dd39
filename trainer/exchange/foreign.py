"""What lies in a diffusers folder? Its network's config and weights, and what its scheduler says: plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.errors import UserError
from trainer.exchange.openai import read_weights
from trainer.models.peer import diffusers

CONFIG = "config.json"
_SCHEDULER = Path("scheduler") / "scheduler_config.json"
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_OF_LEVELS = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    "rescale_betas_zero_snr",
)


@dataclass(frozen=True)
class Scheduler:
    """What a scheduler with betas says, whatever its solver."""

    file: Path
    prediction: str
    """diffusers' name of what the network answers."""
    name: str
    """`beta_schedule`."""
    alpha_squared: Tensor
    """float64 [N], cleanest first."""
    config: dict[str, Any]


def is_folder_of_diffusers(path: Path) -> bool:
    """Whether there is a network with its config in it."""
    return path.is_dir() and network_folder(path) is not None


def network_folder(folder: Path) -> Path | None:
    """Where the network lies, in a pipeline's folder or alone."""
    return next((each for each in (folder / "unet", folder) if (each / CONFIG).is_file()), None)


def config_of(place: Path) -> dict[str, Any]:
    """The config of the network in that folder; UserError where it is none."""
    config = _mapping(place / CONFIG)
    if not isinstance(config.get("_class_name"), str):
        raise UserError(f"{place / CONFIG}: says no _class_name: it is no network of diffusers")
    return config


def weights_of(place: Path) -> dict[str, Tensor]:
    """The weights of the network in that folder; UserError where there are none."""
    file = next((place / name for name in _WEIGHTS if (place / name).is_file()), None)
    if file is None:
        raise UserError(f"{place} holds no weights ({' or '.join(_WEIGHTS)})")
    return read_weights(file)


def scheduler_of(folder: Path) -> Scheduler | None:
    """What the folder's scheduler says; None where there is none, or it has no betas. UserError where it is damaged."""
    file = folder / _SCHEDULER
    if not file.is_file():
        return None
    config = _mapping(file)
    if "beta_schedule" not in config:
        return None
    options = {name: config[name] for name in _OF_LEVELS if config.get(name) is not None}
    try:
        levels = diffusers().DDPMScheduler(**options).alphas_cumprod
    except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{file}: diffusers cannot make its levels ({error})") from None
    prediction, name = str(config.get("prediction_type", "epsilon")), str(config["beta_schedule"])
    return Scheduler(file, prediction, name, levels.double(), config)


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is no JSON, or damaged ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no mapping: it is no config of diffusers")
    return content
