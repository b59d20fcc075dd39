"""With which weights does a training begin? Its seed's own, or those that another trial learned."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from trainer.bounds import Seed
from trainer.checkpoint import checkpoints, newest_state
from trainer.lazily import torch
from trainer.spec import Neutral, Spec

if TYPE_CHECKING:
    from torch import Tensor


TRIALS = Path("runs/trials")
"""Where `python -m trainer` puts trials."""


class Start(Spec):
    """A trained model whose averaged weights are the first ones, where name and shape fit (progressive growing).

    Which weights they are is a part of the trial's identity; where they lie is not.
    """

    trial: Annotated[str, Field(min_length=1)]
    """Key of a trial, or its directory. In an experiment also the YAML of a trial or experiment, or a whole trial
    written here: the one that it plans for `cell` and `seed`, which must be trained."""
    cell: Annotated[str | None, Neutral(None)] = None
    """Of an experiment's YAML: which cell; null: the only one."""
    seed: Annotated[Seed | None, Neutral(None)] = None
    """Of a YAML: which seed; null: the first."""
    weights: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$")] = None
    """Digest of the averaged weights; filled in when the trial is named, so that they cannot change afterwards."""

    @model_validator(mode="before")
    @classmethod
    def _found(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("weights") is not None:
            return data
        trial = data.get("trial")
        if not isinstance(trial, str) or not trial:
            return data
        if (
            given := next((n for n in ("cell", "seed") if data.get(n) is not None), None)
        ) is not None:
            raise ValueError(
                f"{given}: is of a trial or experiment in a YAML, which is looked up where an experiment is read "
                "(`diffsweep run`): write the trial's directory here"
            )
        directory = _directory(trial)
        return {**data, "trial": str(directory), "weights": _weights(directory)}

    @property
    def directory(self) -> Path:
        """Of the trial."""
        return Path(self.trial)


def digest(weights: dict[str, Tensor]) -> str:
    """16 hex digits over names, shapes and values."""
    sha = hashlib.sha256()
    for name, value in sorted(weights.items()):
        sha.update(f"{name}/{tuple(value.shape)}/{value.dtype}\n".encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def _directory(trial: str) -> Path:
    """Where the trial of this key or path lies; ValueError if nothing is there."""
    try:
        places = (Path(trial).expanduser(), TRIALS / trial)
        found = next((place for place in places if place.is_dir()), None)
    except (OSError, RuntimeError, ValueError):
        found = None
    if found is None:
        raise ValueError(
            f"trial: {trial[:200]} is neither a directory nor a trial of {TRIALS}: write the "
            "directory of a trial that was trained"
        )
    return found.resolve()


def _weights(directory: Path) -> str:
    """Digest of the newest averaged weights; ValueError where there are none."""
    held = tuple((folder, folder.stat().st_mtime_ns) for folder in checkpoints(directory))
    found = _digest_of(held) if held else None
    if found is None:
        raise ValueError(
            f"trial: {directory} holds no trained model; train it first, or name another"
        )
    return found


@lru_cache(maxsize=64)
def _digest_of(held: tuple[tuple[Path, int], ...]) -> str | None:
    """Of the newest of these checkpoints, which are read again only when one of them changes."""
    state, _ = newest_state(held[0][0].parent, torch.device("cpu"))
    return None if state is None else digest(state["average"])
