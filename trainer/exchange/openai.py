"""How do the weights of improved- and guided-diffusion become ours? Published names in, our network's names out."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.errors import UserError
from trainer.exchange.levels import turned
from trainer.models import UNet
from trainer.models.embedding import SCALE
from trainer.trial import TrialSpec

Order = Literal["heads_first", "qkv_first"]
"""Rows of an attention's projection: heads and in each q, k, v (all published files but those of
use_new_attention_order), or q, k, v and in each the heads."""

_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "embed",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "skip",
}
_ATTENTION = {"norm": "norm", "qkv": "qkv", "proj_out": "out"}
_SHOWN = 4


def read_weights(file: Path) -> dict[str, Tensor]:
    """A file of plain tensors by name; UserError for anything else. Loading it cannot run code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{file} is no safetensors file, or damaged ({error})") from None
    except FileNotFoundError:
        raise UserError(f"{file} is not there: name a .pt file of weights") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise UserError(
            f"{file} is no file of plain tensors, or damaged: it was not loaded, because more than that could run code"
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise UserError(
            f"{file} holds no tensors by name: name a file such as ema_0.9999_500000.pt"
        )
    return loaded


def translated(
    trial: TrialSpec, network: nn.Module, weights: dict[str, Tensor], order: Order
) -> dict[str, Tensor]:
    """The state of `network` from published weights [names of improved-diffusion]; UserError says what does not fit.

    Their networks are told k of the step k = 0 ... T - 1 (or 1000 k/T), ours under `conditioning: time` (k + 1)/T: the
    first layer is turned so that both answer alike. The row for "no label", which theirs lack, is zero.
    """
    spec = trial.model
    if not isinstance(spec, UNet) or spec.layout != "ddpm":
        raise UserError(
            "model: these weights belong to a U-Net of layout ddpm: choose a preset of that network"
        )
    names = dict(names_of(spec))
    ours = network.state_dict()
    given = {names[path] + "." + leaf: (name, value) for name, value in weights.items()
             for path, _, leaf in [name.rpartition(".")] if path in names}  # fmt: skip
    _refuse_other_names(weights, names, ours, given)
    state = {}
    for name, wanted in ours.items():
        if name not in given:
            state[name] = torch.zeros_like(wanted)  # a vector of inputs, which begins silent
            continue
        published, value = given[name]
        state[name] = _fitted(spec, name, published, value.float(), wanted, order)
    first = "embed.layers.0.weight"
    state[first] = turned(state[first], -phase(trial), last=False)
    return state


def phase(trial: TrialSpec) -> float:
    """By how much what our network is told of a step exceeds what theirs is told, in their units."""
    diffusion, steps = trial.diffusion, trial.diffusion.schedule.steps
    if diffusion.conditioning in ("step", "relative_step"):
        return 0.0
    if diffusion.conditioning == "time" and steps is not None:
        return SCALE / steps
    raise UserError(
        f"diffusion.conditioning: {diffusion.conditioning} is not what these networks were told: set it to time, and "
        "the schedule's steps to theirs (diffusion_steps)"
    )


def _fitted(
    spec: UNet, name: str, published: str, value: Tensor, wanted: Tensor, order: Order
) -> Tensor:
    if name.endswith("embed.labels.weight"):
        value = torch.cat([value, value.new_zeros(1, value.shape[1])])
    if value.ndim == 3:
        value = value[..., None]
    if value.shape != wanted.shape:
        raise UserError(
            f"`{published}` is {_size(value)}, the model of the YAML has {_size(wanted)} there: another width, "
            "depth or number of classes"
        )
    if ".qkv." in name and order != getattr(spec, "attention_order", "qkv_first"):
        heads = spec.style().head_count(len(value) // 3)
        parts = (heads, 3) if order == "heads_first" else (3, heads)
        rows = value.reshape(*parts, -1, *value.shape[1:]).transpose(0, 1)
        value = rows.reshape(value.shape)
    return value.contiguous()


def _refuse_other_names(
    weights: dict[str, Tensor],
    names: dict[str, str],
    ours: dict[str, Tensor],
    given: dict[str, tuple[str, Tensor]],
) -> None:
    surplus = [name for name in weights if name.rpartition(".")[0] not in names]
    surplus += [published for name, (published, _) in given.items() if name not in ours]
    missing = [name for name in ours if name not in given and name != "embed.vector"]
    if not surplus and not missing:
        return
    published = {mine: theirs for theirs, mine in names.items()}
    lacking = [f"{published[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}" for n in missing]
    parts = [
        f"{what} {', '.join(f'`{name}`' for name in some[:_SHOWN])}{' ...' if len(some) > _SHOWN else ''}"
        for what, some in (("lack", lacking), ("have besides", surplus))
        if some
    ]
    raise UserError(
        f"the weights are of another network than the YAML's model: they {' and '.join(parts)}; look at "
        "model.channels, blocks, attention, resample and classes"
    )


def names_of(spec: UNet) -> Iterator[tuple[str, str]]:
    """Modules as published, and ours of layout ddpm."""
    yield from (("time_embed.0", "embed.layers.0"), ("time_embed.2", "embed.layers.2"))
    yield from (("label_emb", "embed.labels"), ("input_blocks.0.0", "inward"))
    yield from (("out.0", "norm"), ("out.2", "outward"))
    yield from _block("middle_block.0", "middle.0", "middle_block.1")
    yield from _block("middle_block.2", "middle.1", None)
    depths, coarsest = spec.depths(), len(spec.channels) - 1
    number = 0
    for level, depth in enumerate(depths):
        for _ in range(depth):
            place = f"input_blocks.{number + 1}"
            attention = f"{place}.1" if level in spec.attention else None
            yield from _block(f"{place}.0", f"down.{number}", attention)
            number += 1
        if level < coarsest:
            place = f"input_blocks.{number + 1}.0"
            yield f"{place}.op", f"down.{number}.conv"
            yield from _block(place, f"down.{number}", None)
            number += 1
    number = 0
    for output, (level, j) in enumerate(
        (i, j) for i in range(coarsest, -1, -1) for j in range(depths[i] + 1)
    ):
        place = f"output_blocks.{output}"
        attends = level in spec.attention
        yield from _block(f"{place}.0", f"up.{number}", f"{place}.1" if attends else None)
        number += 1
        if j == depths[level] and level > 0:
            above = f"{place}.{2 if attends else 1}"
            yield f"{above}.conv", f"up.{number}.conv"
            yield from _block(above, f"up.{number}", None)
            number += 1


def _block(theirs: str, ours: str, attention: str | None) -> Iterator[tuple[str, str]]:
    for name, mine in _BLOCK.items():
        yield f"{theirs}.{name}", f"{ours}.{mine}"
    for name, mine in _ATTENTION.items():
        if attention is not None:
            yield f"{attention}.{name}", f"{ours}.attention.{mine}"


def _size(value: Tensor) -> str:
    return " x ".join(map(str, value.shape))
