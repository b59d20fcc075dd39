"""Which checkpoint of a directory can be read? The newest whole one; nothing in it can run code."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

PREFIX, STATE, MANIFEST = "checkpoint-", "state.pt", "manifest.json"
_NAME = re.compile(rf"{PREFIX}\d{{12}}")


def checkpoints(directory: Path) -> list[Path]:
    """Their folders, oldest first: `checkpoint-` and 12 digits, nothing else that lies there."""
    return sorted(path for path in directory.glob(f"{PREFIX}*") if _NAME.fullmatch(path.name))


def images_of(checkpoint: Path) -> int:
    """Images seen there."""
    return int(checkpoint.name.removeprefix(PREFIX))


def even(directories: Iterable[Path]) -> int | None:
    """Where trainings that were interrupted together, one further than the other, are even again, if they can be."""
    newest = [there[-1] for one in directories if (there := checkpoints(one))]
    return min(map(images_of, newest), default=None)


def forget_after(directory: Path, images: int) -> None:
    """Training goes on from there: what is newer will be written again, and until then takes the place of others."""
    for one in checkpoints(directory):
        if images_of(one) > images:
            shutil.rmtree(one, ignore_errors=True)


def newest_state(
    directory: Path, device: torch.device, at: int | None = None
) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole state, or None; and a note for every damaged checkpoint that was passed over.

    Where there is one `at` these images, none that is newer. Loaded with `weights_only=True`: a checkpoint cannot run
    code.
    """
    notes: list[str] = []
    there = checkpoints(directory)
    if at is not None and at in map(images_of, there):
        there = [one for one in there if images_of(one) <= at]
    for checkpoint in reversed(there):
        problem = _damage(checkpoint)
        if problem is None:
            state = torch.load(checkpoint / STATE, map_location=device, weights_only=True)
            if notes:
                notes[-1] += f"; continued from {checkpoint.name}"
            return state, notes
        notes.append(f"{checkpoint} was passed over: {problem}")
    if notes:
        notes[-1] += "; started again from the beginning"
    return None, notes


def sha256(file: Path) -> str:
    """Of its content, in hexadecimal digits."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _damage(checkpoint: Path) -> str | None:
    manifest = checkpoint / MANIFEST
    if not manifest.exists():
        return "it has no manifest"
    try:
        expected = json.loads(manifest.read_text())["sha256"]
        actual = sha256(checkpoint / STATE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"it cannot be read ({error})"
    return None if actual == expected else "its content does not match its manifest (cut short?)"


def own(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without what else lies in their storage: a file would keep all of that."""
    return {
        name: one.clone() if one.untyped_storage().nbytes() > one.nbytes else one
        for name, one in state.items()
    }
