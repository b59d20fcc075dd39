"""How does a diffusers user's network train here? UNet2DModel by its own config."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError, model_validator

from trainer.bounds import MANY, Count
from trainer.errors import suggestion
from trainer.lazily import torch
from trainer.models.peer import diffusers
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import nn

    from trainer.models.peer_network import PeerNetwork

NAME = "UNet2DModel"
_REFUSALS = (
    ValueError, TypeError, KeyError, AttributeError, AssertionError, IndexError, ZeroDivisionError,
    NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip
"""What diffusers raises at a config that it cannot build."""
_COUNTS = {
    "block_out_channels", "layers_per_block", "attention_head_dim", "norm_num_groups", "num_train_timesteps",
}  # fmt: skip
"""Arguments that count something."""
_MOST_LAYERS = 100
_LARGEST_CONFIG = 2**20


class DiffusersUNet(Spec):
    """diffusers' UNet2DModel, built and initialized by diffusers (its last layer does not start at zero).

    The network is told 1000 times `diffusion.conditioning` as its timestep, a float: exactly the integers 0..T-1 that
    diffusers trains with under `conditioning: step`; learned time embeddings are given the nearest integer.
    """

    kind: Literal["diffusers_unet"] = "diffusers_unet"
    config: Annotated[dict[str, JsonValue], Field(max_length=100)]
    """UNet2DModel's arguments as its config.json has them, or the path of that file or of its folder. The data says
    sample_size, and in_channels and out_channels where they are left out; keys that begin with _ are not read."""
    classes: Count | None = None
    """Labels 0..classes-1 condition the network, `classes` is "no label", a row more than in diffusers; null: as
    many as config.num_class_embeds, and without that unconditional."""

    @model_validator(mode="before")
    @classmethod
    def _normalized(cls, data: Any) -> Any:
        """The content in place of a path, and one place for the number of labels."""
        if not isinstance(data, dict) or not isinstance(data.get("config"), dict | str):
            return data
        given = data["config"]
        config = dict(_read(given) if isinstance(given, str) else given)
        if (name := config.get("_class_name", NAME)) != NAME:
            raise ValueError(f"config._class_name: {name} is another network; only {NAME} is known")
        ignored = [key for key in config if str(key).startswith("_") or key == "sample_size"]
        for key in ignored:
            del config[key]
        rows, classes = config.pop("num_class_embeds", None), data.get("classes")
        if isinstance(rows, int) and isinstance(classes, int) and rows - classes not in (0, 1):
            raise ValueError(
                f"config.num_class_embeds: {rows} contradicts classes: {classes}; leave one of them out"
            )
        return {**data, "config": config, "classes": rows if classes is None else classes}

    @model_validator(mode="after")
    def _can_be_told(self) -> DiffusersUNet:
        if self.config.get("class_embed_type") is not None:
            raise ValueError(
                "config.class_embed_type: labels are read from a table here; leave it out and set classes"
            )
        time = self.config.get("time_embedding_type")
        if time == "learned" and self.config.get("num_train_timesteps") is None:
            raise ValueError(
                "config.num_train_timesteps: a learned time embedding is a table of that many rows; write how many"
            )
        if time == "fourier":
            raise ValueError(
                "config.time_embedding_type: fourier divides the output by sigma, which `prediction` does here; use "
                "positional"
            )
        return self

    def label(self) -> str:
        """The widths, and the labels if there are any."""
        given = {
            "block_out_channels": self.config.get("block_out_channels"),
            "classes": self.classes,
        }
        told = (f"{name}={value}" for name, value in given.items() if value is not None)
        return f"{self.kind}({', '.join(told)})"

    def build(
        self, shape: tuple[int, ...], output_channels: int | None = None, vector: int = 0
    ) -> nn.Module:
        """The module for images of shape (C, H, W), initialized from torch's current generator.

        Its output has `output_channels` in place of C; it may be told a `vector` of that many entries.
        Raises ValueError naming the key that diffusers refuses, EnvironmentProblem where diffusers is absent.
        """
        if len(shape) != 3:
            raise ValueError(
                f"model.kind: {self.kind} needs images, the data has shape {shape}: use kind: mlp"
            )
        arguments = self._arguments(shape[0], output_channels or shape[0])
        try:
            unet = diffusers().UNet2DModel(**arguments)
        except _REFUSALS as error:
            raise ValueError(_refusal(self.config, error)) from None
        from trainer.models.peer_network import PeerNetwork

        network = PeerNetwork(unet, self.classes, vector)
        _try(network, shape)
        return network

    def _arguments(self, inward: int, out: int) -> dict[str, Any]:
        """What UNet2DModel is called with: every key known to it and of the right type."""
        known = inspect.signature(diffusers().UNet2DModel.__init__).parameters
        for key, value in self.config.items():
            if key not in known or key == "self":
                raise ValueError(
                    f"model.config.{key}: {NAME} has no such argument{suggestion(key, known)}"
                )
            if (wrong := _mistyped(known[key].annotation, value)) is not None:
                raise ValueError(f"model.config.{key}: {json.dumps(value)}: {wrong}")
            counts = value if isinstance(value, list) else [value]
            if key in _COUNTS and any(isinstance(one, int) and one < 1 for one in counts):
                raise ValueError(f"model.config.{key}: {json.dumps(value)}: must be 1 or more")
            most = _MOST_LAYERS if key == "layers_per_block" else MANY
            if any(isinstance(one, int | float) and abs(one) > most for one in counts):
                raise ValueError(
                    f"model.config.{key}: {json.dumps(value)}: must be {most:,} or less"
                )
        for key, needed in (("in_channels", inward), ("out_channels", out)):
            if self.config.get(key, needed) != needed:
                raise ValueError(
                    f"model.config.{key}: {self.config[key]}, but data, inputs and objective need {needed}: leave it "
                    "out"
                )
        rows = {} if self.classes is None else {"num_class_embeds": self.classes + 1}
        return {**self.config, "in_channels": inward, "out_channels": out, **rows}


DiffusersNetworks = DiffusersUNet
"""The members of this file: a new network of diffusers is one class above and one name here."""


def _read(path: str) -> dict[str, Any]:
    """The content of a config.json, or of the one in a folder or its `unet`; raises ValueError."""
    try:
        place = Path(path).expanduser()
        inside = (place, place / "config.json", place / "unet" / "config.json")
        file = next((file for file in inside if file.is_file()), None)
        if file is None:
            raise ValueError(f"config: no config.json at {path[:200]!r}: write where it is")
        if file.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"config: {path[:200]!r} is larger than 1 MB: name a config.json")
        config = json.loads(file.read_text(encoding="utf-8"))
    except (
        OSError,
        RecursionError,
        RuntimeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
    ) as error:
        raise ValueError(
            f"config: {path[:200]!r} cannot be read as JSON ({error}): name a config.json of diffusers"
        ) from None
    if not isinstance(config, dict):
        raise ValueError(
            f"config: {path[:200]!r} holds no mapping: name a config.json of diffusers"
        )
    return config


def _mistyped(annotation: Any, value: JsonValue) -> str | None:
    """What is wrong with an argument's type."""
    if annotation is inspect.Parameter.empty:
        return None
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        return error.errors()[0]["msg"].lower()
    return None


def _refusal(config: dict[str, JsonValue], error: Exception) -> str:
    """What diffusers said, at the key that it names or whose value it quotes."""
    said = " ".join(str(error).split())
    words = {key: value if isinstance(value, list) else [value] for key, value in config.items()}
    named = [key for key in words if key in said or key.removeprefix("norm_") in said]
    quoted = [
        key for key, held in words.items() if any(isinstance(v, str) and v in said for v in held)
    ]
    where = next(iter(named + quoted), None)
    place = "model.config" if where is None else f"model.config.{where}"
    return f"{place}: {NAME} cannot be built so: {said[:300] or type(error).__name__}"


def _try(network: PeerNetwork, shape: tuple[int, ...]) -> None:
    """One pass without memory or randomness: sides that cannot be halved are found now. Raises ValueError."""
    weights = {
        name: value.detach().to("meta")
        for name, value in [*network.named_parameters(), *network.named_buffers()]
    }
    x, condition = torch.empty(1, *shape, device="meta"), torch.empty(1, device="meta")
    network.eval()
    try:
        torch.func.functional_call(network, weights, (x, condition))
    except _REFUSALS as error:
        levels = len(network.unet.config.block_out_channels)
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"model.config: images of {shape[1]} x {shape[2]} do not pass through its {levels} levels, which want "
            f"sides divisible by {2 ** (levels - 1)} ({said}): use fewer levels, or another data.size"
        ) from None
    finally:
        network.train()
