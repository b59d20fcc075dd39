"""How does a training survive kill -9? Whole checkpoints, written aside and renamed, manifest last.

Loaded with `weights_only=True`: a checkpoint cannot run code.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

PREFIX = "checkpoint-"
MANIFEST = "manifest.json"
STATE = "state.pt"
KEEP = 2
"""Checkpoints kept while a trial trains; one is enough when it is done."""


def save(directory: Path, images: int, state: dict[str, Any], keep: int = KEEP) -> Path:
    """Write `checkpoint-<images>` under `directory` and drop all but the newest `keep`.

    `state` holds tensors and plain Python values only.
    """
    final = directory / f"{PREFIX}{images:012d}"
    partial = directory / f".partial-{final.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    torch.save(state, partial / STATE)
    manifest = {"images": images, "sha256": _sha256(partial / STATE)}
    (partial / MANIFEST).write_text(json.dumps(manifest))
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for old in _checkpoints(directory)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest(directory: Path, device: torch.device) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole state, or None; and a note for every damaged checkpoint that was passed over."""
    notes: list[str] = []
    for leftover in directory.glob(f".partial-{PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for checkpoint in reversed(_checkpoints(directory)):
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


def _checkpoints(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{PREFIX}*"))


def _damage(checkpoint: Path) -> str | None:
    manifest = checkpoint / MANIFEST
    if not manifest.exists():
        return "it has no manifest"
    try:
        expected = json.loads(manifest.read_text())["sha256"]
        actual = _sha256(checkpoint / STATE)
    except (OSError, ValueError, KeyError) as error:
        return f"it cannot be read ({error})"
    return None if actual == expected else "its content does not match its manifest (cut short?)"


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
