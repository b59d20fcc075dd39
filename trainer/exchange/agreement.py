"""Does a diffusers folder mean what the trial says that it is taken in as? Its scheduler, and its network's answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.errors import UserError
from trainer.exchange.foreign import config_of, network_folder, scheduler_of, weights_of
from trainer.exchange.levels import PREDICTIONS, Table
from trainer.exchange.own_code import CLASS, own_network
from trainer.exchange.unet2d import CLOSE, largest_gap
from trainer.models import DiffusersUNet
from trainer.models.peer import diffusers
from trainer.trained import Trained


def same_levels(one: Tensor, other: Tensor) -> bool:
    """Whether two tables of alpha^2 agree: to float32 sums, and a last level of nothing or nearly."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def check_agreement(folder: Path, trained: Trained) -> list[str]:
    """What a person should know; UserError where the folder says of itself what the trial does not.

    Answers are compared at some levels, as they are before a model leaves.
    """
    table = Table.of(trained.diffusion)
    place = network_folder(folder)
    assert place is not None, "a folder of diffusers"
    config = config_of(place)
    notes = _check_scheduler(folder, trained, table)
    if config["_class_name"] == CLASS:
        _check_own(place, config, trained, table)
    else:
        _check_answers(place, config, trained, table)
    return notes


def _check_scheduler(folder: Path, trained: Trained, table: Table) -> list[str]:
    said = scheduler_of(folder)
    if said is None:
        return [
            "the folder has no scheduler with betas: that the trial's schedule and prediction are those of the "
            "weights is nobody's word but the trial's"
        ]
    diffusion = trained.trial.diffusion
    wanted = PREDICTIONS.get(diffusion.prediction.kind, "sample")
    if said.prediction != wanted:
        kinds = {theirs: ours for ours, theirs in PREDICTIONS.items()}
        way = kinds.get(said.prediction)
        raise UserError(
            f"diffusion.prediction: {diffusion.prediction.kind}, but {said.file} says "
            f"prediction_type: {said.prediction}"
            + (f": write {{kind: {way}}}" if way else ", which no prediction here is")
        )
    ours = torch.sigmoid(table.log_snr)
    if len(said.alpha_squared) != len(ours):
        raise UserError(
            f"diffusion.schedule: {diffusion.schedule.label()} is a table of {len(ours)} levels, {said.file} says "
            f"num_train_timesteps: {len(said.alpha_squared)}: give the schedule its steps"
        )
    if not same_levels(said.alpha_squared, ours):
        gap = (said.alpha_squared - ours).abs()
        k = int(gap.argmax())
        raise UserError(
            f"diffusion.schedule: {diffusion.schedule.label()} has other noise levels than {said.file} "
            f"({said.name}): alpha^2 is {float(ours[k]):.4g} at level {k}, theirs {float(said.alpha_squared[k]):.4g}: "
            "write the schedule that the weights were trained on"
        )
    return []


def _check_own(place: Path, config: Mapping[str, Any], trained: Trained, table: Table) -> None:
    """A network that left with its source: the same spec, told the same of every level."""
    own = own_network(trained, table)
    try:
        is_same = type(trained.trial.model).model_validate(config["model"]) == trained.trial.model
    except (ValueError, KeyError):
        is_same = False
    if not is_same:
        raise UserError(
            f"model: {trained.trial.model.label()} is not the network of {place}: leave --as out, the folder knows it"
        )
    there = weights_of(place)
    told = {name: v for name, v in own.weights.items() if not name.startswith("network.")}
    for name, value in told.items():
        if name not in there or not _alike(there[name], value):
            raise UserError(
                f"diffusion: the network of {place} was told its noise levels otherwise (`{name}`): leave --as out, "
                "the folder knows how"
            )
    if (
        config.get("heads") != own.config["heads"]
        or config.get("denoises") != own.config["denoises"]
    ):
        raise UserError(
            f"diffusion.prediction: {trained.diffusion.prediction.kind} is not what the network of {place} answers: "
            "leave --as out, the folder knows it"
        )


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)


def _check_answers(place: Path, config: Mapping[str, Any], trained: Trained, table: Table) -> None:
    options = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        theirs = diffusers().UNet2DModel(**options).eval()
        theirs.load_state_dict(weights_of(place))
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{place}: its config and its weights do not fit each other ({said})"
        ) from None
    schedule = trained.diffusion.schedule
    if trained.diffusion.conditioning == "step" and schedule.steps is not None:
        table = Table(
            schedule.table(schedule.steps)
        )  # a bounded last level would lie between two steps
    gap = largest_gap(trained, table, theirs)
    if gap < CLOSE:
        return
    way = (
        f"give model.config this folder, and keep diffusion.conditioning: step (it is "
        f"{trained.diffusion.conditioning})"
        if isinstance(trained.trial.model, DiffusersUNet)
        else "if the YAML's model, diffusion.conditioning and steps are right, use model: {kind: diffusers_unet, "
        f"config: {place}}} with diffusion.conditioning: step"
    )
    raise UserError(
        f"the trial's network answers otherwise than the one that {place} describes, by {gap:.2g} of the largest "
        f"output: {way}"
    )
