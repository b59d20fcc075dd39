"""Which copies of its averages does a trial keep on the way? One file for each, written whole."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.files import write_whole
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


_SUFFIX = ".pt"


@dataclass(frozen=True)
class Snapshot:
    """One copy, not yet read."""

    name: str
    """Of the average."""
    update: int
    """Optimizer updates that it had seen."""
    path: Path

    def load(self, device: torch.device) -> dict[str, Tensor]:
        """The network's state; loaded with `weights_only=True`."""
        return torch.load(self.path, map_location=device, weights_only=True)


class Snapshots:
    """`snapshots/<update>-<name>.pt` of one trial."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, name: str, update: int, state: dict[str, Tensor]) -> None:
        """Keep a copy, on disk when this returns; again after a crash, the same bytes."""
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(self._directory / f"{update:010d}-{name}{_SUFFIX}", content.getvalue())

    def all(self) -> list[Snapshot]:
        """Every copy, in order of updates."""
        found = []
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            update, _, name = path.name.removesuffix(_SUFFIX).partition("-")
            if update.isdigit():
                found.append(Snapshot(name, int(update), path))
        return found
