"""Helpers of the family tests: the members of a union, schedules to try them on, golden entries."""

import functools
import json
import typing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.diffusion import schedule
from trainer.diffusion.process import Diffusion
from trainer.spec import Spec

GOLDEN = Path(__file__).parents[2] / "golden"


def members(union: Any) -> list[type[Spec]]:
    """The classes named in a discriminated union."""
    inner = typing.get_args(union)[0] if typing.get_origin(union) is typing.Annotated else union
    return list(typing.get_args(inner)) or [inner]


def golden(family: str, feature: str, **inputs: Any) -> list[dict[str, Any]]:
    """Entries of tests/golden/<family>.json with this feature (a prefix) and these input values."""
    entries = _entries(family)
    matching = [
        entry
        for entry in entries
        if entry["feature"].startswith(feature)
        and all(entry["inputs"].get(key) == value for key, value in inputs.items())
    ]
    assert matching, f"no golden entry {feature} {inputs}"
    return matching


@functools.cache
def _entries(family: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / f"{family}.json").read_text())["entries"]


def tensor(values: Any) -> Tensor:
    """Nested lists, with inf and nan as strings, in float64."""
    if isinstance(values, list):
        return torch.stack([tensor(v) for v in values])
    return torch.tensor(float(values), dtype=torch.float64)


def midpoints(count: int) -> Tensor:
    """`count` evenly spaced u in (0, 1), float64."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def losses_of(diffusion: Diffusion, *arguments: Any, **named: Any) -> Tensor:
    """Loss of each example [B], as training makes it."""
    return diffusion.loss(*arguments, **named)


def ancestor_schedule(name: str, steps: int) -> schedule.Schedule:
    """improved-diffusion's "linear" and "cosine" tables."""
    kinds = {"linear": schedule.LinearBeta, "cosine": schedule.Cosine}
    return kinds[name](steps=steps)
