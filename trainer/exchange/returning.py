"""How does a diffusers folder become a model of ours? One that left this house, or any UNet2DModel with its config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.errors import UserError
from trainer.exchange.foreign import CONFIG, config_of, network_folder, weights_of
from trainer.exchange.levels import turned
from trainer.exchange.openai import phase
from trainer.exchange.own_code import CLASS
from trainer.exchange.pipeline import ORIGIN
from trainer.exchange.unet2d import module_names
from trainer.models import UNet
from trainer.trial import TrialSpec


def origin_of(folder: Path) -> TrialSpec | None:
    """The trial that left this house in that folder; None for a folder from elsewhere."""
    try:
        return TrialSpec.saved(json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["trial"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder / ORIGIN} cannot be read: it is damaged, or of a later version; name the trial with --as"
        ) from None


def state_of(
    folder: Path, trial: TrialSpec, network: nn.Module
) -> tuple[dict[str, Tensor], list[str]]:
    """The state of `network`, the trial's, and what a person should know; UserError says what does not fit."""
    place = network_folder(folder)
    assert place is not None, "a folder of diffusers"
    config = config_of(place)
    weights, ours = weights_of(place), network.state_dict()
    if config["_class_name"] == CLASS:
        head = "network."
        state = {name.removeprefix(head): v for name, v in weights.items() if name.startswith(head)}
    elif config["_class_name"] != "UNet2DModel":
        raise UserError(
            f"{place / CONFIG}: {config['_class_name']} is another network than UNet2DModel"
        )
    elif isinstance(trial.model, UNet):
        state = _renamed(trial, weights, config)
    else:
        state = _wrapped(trial, weights, ours)
    return _fitted(state, ours)


def _renamed(
    trial: TrialSpec, weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Our own UNet's weights under our names again: the way of `unet2d.to_unet2d`, back."""
    spec = trial.model
    assert isinstance(spec, UNet)
    names = {theirs: ours for ours, theirs in module_names(spec)}
    state: dict[str, Tensor] = {}
    for name, value in weights.items():
        path, _, leaf = name.rpartition(".")
        place, _, part = path.rpartition(".")
        if part in ("to_q", "group_norm") or path.endswith("to_out.0"):
            place = path.removesuffix(".to_out.0") if path.endswith("to_out.0") else place
            if place not in names:
                continue  # no attention of ours: `_fitted` and the comparison of answers say what that means
            mine = names[place]
            if part == "group_norm":
                state[f"{mine}.norm.{leaf}"] = value
            elif part == "to_q":
                rows = torch.cat([_needed(weights, f"{place}.to_{each}.{leaf}") for each in "qkv"])
                state[f"{mine}.qkv.{leaf}"] = rows[..., None, None] if leaf == "weight" else rows
            else:
                state[f"{mine}.out.{leaf}"] = value[..., None, None] if leaf == "weight" else value
        elif part not in ("to_k", "to_v") and path in names:
            state[f"{names[path]}.{leaf}"] = value
    first = "embed.layers.0.weight"
    _needed(weights, "time_embedding.linear_1.weight")
    if config.get("time_embedding_type") == "positional":
        state[first] = turned(state[first], -phase(trial), last=False)
    state[first] = state[first][:, : spec.embedding].contiguous()
    return state


def _needed(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise UserError(
            f"the weights are of another network than the trial's model: they lack `{name}`"
        )
    return weights[name]


def _wrapped(
    trial: TrialSpec, weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Any UNet2DModel, for a trial of `kind: diffusers_unet`, which keeps it under the name `unet`."""
    kind = str(trial.model.kind)
    if kind != "diffusers_unet":
        raise UserError(
            f"model.kind: {kind} is no UNet2DModel: use kind: diffusers_unet with the folder as its config"
        )
    if str(trial.diffusion.conditioning) != "step":
        raise UserError(
            f"diffusion.conditioning: {trial.diffusion.conditioning} is not what a UNet2DModel was told: set it to step"
        )
    state = {f"unet.{name}": value for name, value in weights.items()}
    table = "unet.class_embedding.weight"
    if table in state and table in ours and len(ours[table]) == len(state[table]) + 1:
        state[table] = torch.cat([state[table], torch.zeros_like(state[table][:1])])
    return state


def _fitted(
    state: dict[str, Tensor], ours: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The state with what was left behind filled in by zeros; UserError for other names and sizes."""
    notes: list[str] = []
    surplus = [name for name in state if name not in ours]
    for name, wanted in ours.items():
        value = state.get(name)
        if value is None and name.endswith((".vector", "embed.vector")):
            state[name] = torch.zeros_like(wanted)
        elif value is not None and _lacks_variance(name, value, wanted):
            state[name] = torch.cat([value, torch.zeros_like(wanted[len(value) :])])
            notes = [
                "the learned variance stayed behind when the model left: what asks for it gets a middle one"
            ]
        elif value is None or value.shape != wanted.shape:
            surplus.append(name)
    if surplus:
        raise UserError(
            f"the weights are of another network than the trial's model: `{surplus[0]}` does not fit"
        )
    return state, notes


def _lacks_variance(name: str, value: Tensor, wanted: Tensor) -> bool:
    """Whether a last layer has fewer outputs than the objective learned."""
    is_last = name.rpartition(".")[0].endswith(("outward", "conv_out"))
    return is_last and value.shape[1:] == wanted.shape[1:] and len(value) < len(wanted)
