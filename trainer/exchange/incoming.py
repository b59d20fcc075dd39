"""How do weights from elsewhere become a trained model of ours? A trial that says what they are, and its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.data import Codec
from trainer.errors import DataError, UserError
from trainer.exchange.agreement import check_agreement
from trainer.exchange.foreign import is_folder_of_diffusers
from trainer.exchange.openai import Order, read_weights, translated
from trainer.exchange.pipeline import LEARNED
from trainer.exchange.returning import state_of
from trainer.files import HeldError
from trainer.learner import Learner
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec

LEVELS = 255
"""Of the pixels of images whose data is not at hand."""

_CPU = torch.device("cpu")


def take_in(
    file: Path,
    trial: TrialSpec,
    directory: Path,
    *,
    order: Order = "heads_first",
    data_root: Path = Path(),
    cache: Path | None = None,
) -> list[str]:
    """Write published weights as the checkpoint of `trial` in an empty directory; returns what a person should know.

    `file` is a .pt file of improved- or guided-diffusion, or a diffusers folder.
    Raises UserError where they are not the weights of the trial's network.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} is not empty: choose a new folder")
    codec, fingerprint, notes = _data(trial, data_root, cache)
    learner = Learner(trial, codec.shape)
    if is_folder_of_diffusers(file):
        state, more = state_of(file, trial, learner.network)
        notes += more
    else:
        state = translated(trial, learner.network, read_weights(file), order)
    broken = [name for name, v in state.items() if not bool(torch.isfinite(v).all())]
    if broken:
        raise UserError(
            f"{file}: its weights are not finite (`{broken[0]}`): it is damaged, or its training diverged"
        )
    learner.network.load_state_dict(state)
    _learn(learner, file)
    if is_folder_of_diffusers(file):
        network = learner.network.requires_grad_(False).eval()
        model = Trained(trial, network, learner.diffusion, codec, fingerprint, None, 0, _CPU)
        notes += check_agreement(file, model)
    record = Record(directory)
    try:
        with record.writer():
            record.begin(trial, 0)
            record.save_checkpoint(0, _state(learner, state, codec, fingerprint, file), keep=1)
    except HeldError as held:
        raise UserError(f"{directory} is being written by {held.holder}: let it end") from None
    return notes


def _learn(learner: Learner, file: Path) -> None:
    """What learned beside the network, read from the folder; UserError where a schedule did and nobody says how."""
    own = {name: v for name, v in learner.state_dict().items() if not name.startswith("network.")}
    there = file / LEARNED
    if not there.is_file():
        if learner.schedule is not None:
            raise UserError(
                f"diffusion.schedule: {learner.trial.diffusion.schedule.label()} was learned, and {file} does not say "
                f"what ({LEARNED}): export it again, or name the trial with a schedule that stands in its YAML"
            )
        return
    found = read_weights(there)
    alien = [n for n in own if n not in found or found[n].shape != own[n].shape]
    if alien or len(found) > len(own):
        name = next(iter(alien or sorted(set(found) - set(own))))
        raise UserError(f"{there} is of another trial: `{name}` does not fit")
    learner.load_state_dict(found, strict=False)


def _state(
    learner: Learner, network: dict[str, Tensor], codec: Codec, fingerprint: str, file: Path
) -> dict[str, Any]:
    """What a model is made of; nothing to continue a training from, for nobody published that."""
    return {
        "progress": {"images": 0},
        "learner": learner.state_dict(),
        "average": network,
        "codec": codec.to_state(),
        "fingerprint": fingerprint,
        "trial": f"imported from {file.name}",
    }


def _data(trial: TrialSpec, data_root: Path, cache: Path | None) -> tuple[Codec, str, list[str]]:
    """The codec of the data, or what can be said of it where it is not here."""
    try:
        source = trial.data.load(data_root, cache)
    except DataError as error:
        classes = trial.model.classes
        names = None if classes is None else tuple(str(label) for label in range(classes))
        counts = None if classes is None else (1,) * classes
        notes = [
            f"the data is not here ({error}): labels have numbers for names and are drawn equally often, and "
            "`evaluate` needs the data"
        ]
        return Codec(trial.data.shape, LEVELS, names, counts), "absent", notes
    notes = []
    for one in trial.network_inputs():
        one.check(source)
        notes += one.remarks(source)
    return source.codec, source.fingerprint, notes
