"""Models for these tests: a few steps on the digits, kept as a trial keeps them."""

from pathlib import Path
from typing import Any

import torch

from trainer.data import Source
from trainer.distributed import World
from trainer.record import Record
from trainer.training import Training
from trainer.trial import TrialSpec

STEPS = 3


def spec(**changes: Any) -> TrialSpec:
    """A small U-Net of the digits; `changes` replace whole sections or merge mappings."""
    trial: dict[str, Any] = {
        "data": {"kind": "digits"},
        "model": {"kind": "unet", "channels": [8, 16], "blocks": 1, "groups": 4},
        "optimizer": {"lr": 3e-3},
        "ema": {"kind": "ramp", "decay": 0.5},
        "train": {"kimg": 0.096, "batch_size": 32},
        "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 16, "steps": 6}},
    }
    for name, value in changes.items():
        trial[name] = trial.get(name, {}) | value if isinstance(value, dict) else value
    return TrialSpec.model_validate(trial)


def trained(
    trial: TrialSpec, directory: Path, fill: bool = True, source: Source | None = None
) -> Path:
    """Its directory after a few steps on its data, or on `source`.

    With `fill`, weights that are zero at first get values of some size: three steps would hardly move them, and
    an output of nearly nothing proves nothing.
    """
    training = Training(trial, source or trial.data.load(Path()), World(0, 1))
    for _ in range(STEPS):
        training.step()
    if fill:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in training.average.network.parameters():
                if float(parameter.abs().max()) < 0.05:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    record = Record(directory)
    record.begin(trial, training.images)
    record.save_checkpoint(training.images, training.state())
    return directory


def labelled(**changes: Any) -> TrialSpec:
    """The same with labels, hidden now and then."""
    model = {"classes": 10} | changes.pop("model", {})
    train = {"label_dropout": 0.1} | changes.pop("train", {})
    return spec(model=model, train=train, **changes)
