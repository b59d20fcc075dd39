"""Which averages were made of a trial after its training? One file for each, beside what they were made of."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import CheckpointError
from trainer.files import write_whole
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


_SUFFIX = ".pt"


@dataclass(frozen=True)
class Made:
    """An average that was made afterwards."""

    sigma_rel: float
    """Its width."""
    images: int
    """Training images seen at its end."""
    network: dict[str, Tensor]
    """The network's state."""


class MadeAverages:
    """`averages/<name>.pt` of one trial."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Of all, sorted."""
        return sorted(path.stem for path in self._directory.glob(f"*{_SUFFIX}"))

    def save(self, name: str, made: Made) -> None:
        """Keep one, on disk when this returns."""
        content = io.BytesIO()
        torch.save(vars(made), content)
        write_whole(self._file(name), content.getvalue())

    def load(self, name: str, device: torch.device) -> Made:
        """One of `names`, loaded with `weights_only=True`; CheckpointError where the file is damaged."""
        try:
            held: dict[str, Any] = torch.load(
                self._file(name), map_location=device, weights_only=True
            )
            return Made(**held)
        except Exception as error:  # torch raises many kinds for damaged files
            raise CheckpointError(
                f"{self._file(name)} cannot be read ({type(error).__name__}): remove it and make it again"
            ) from None

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"
