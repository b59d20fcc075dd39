"""`gpus: auto`: which share of a GPU does a trial need? What was measured of it, kept in the cache.

A measurement is kept by everything of a trial that its memory may depend on and by the name of the GPU, so it is made
once. What was used last stands until another run measures on other GPUs.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.text import names
from service.planning.speed import digest
from trainer.files import write_whole
from trainer.memory import gib

if TYPE_CHECKING:
    from service.experiment.cell import Cell

MARGIN = 0.1
"""Of what was measured: kernels and allocators differ from process to process."""
MOST_TOGETHER = 8
"""Trials on one GPU, however little memory they need: they take turns there."""
_ALIKE = 0.9
"""A trial that needs so much of what a larger one does gets as much: one shape serves both."""
_VERSION = 1
"""Raised when something else is measured: what was kept before is measured again."""


@dataclass(frozen=True)
class Measured:
    """What one worker of a trial took of a GPU at its largest."""

    taken: int
    """Bytes."""
    total: int
    """That the GPU has."""
    card: str
    """`H100`."""

    @property
    def share(self) -> float:
        """Of the GPU: an eighth at least, rounded up to a hundredth, with the margin; at most all of it."""
        needed = math.ceil(100 * (1 + MARGIN) * self.taken / self.total - 1e-9) / 100
        return min(1.0, max(1 / MOST_TOGETHER, needed))

    def text(self, share: float) -> str:
        """`auto: 0.13 of an H100, 9.8 GiB of 79.6 GiB at its largest`."""
        article = "an" if self.card[:1] in "AEFHILMNORSX" else "a"
        return f"auto: {share:.3g} of {article} {self.card}, {gib(self.taken)} of {gib(self.total)} at its largest"


NO_GPU = "auto: 0, as there is no GPU: its trials train on CPUs"


def levelled(needed: Mapping[str, float]) -> dict[str, float]:
    """The share of each cell, where those that need about as much get the same."""
    given: dict[str, float] = {}
    largest = math.inf
    for cell, share in sorted(needed.items(), key=lambda item: -item[1]):
        largest = largest if share >= _ALIKE * largest else share
        given[cell] = largest
    return given


class Shares:
    """What is kept in a home's cache: a small file for each trial that differs."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def of(self, cell: Cell, card: str) -> Measured | None:
        """What was measured of a cell's trials on GPUs of this name."""
        known = self._read(cell)["cards"].get(card)
        return None if known is None else Measured(**known)

    def keep(self, cell: Cell, measured: Measured) -> None:
        """So that it is not measured again."""
        told = self._read(cell)
        told["cards"][measured.card] = asdict(measured)
        self._write(cell, told)

    def use(self, cell: Cell, share: float) -> None:
        """What its trials get from now on."""
        told = self._read(cell)
        if told["share"] != share:
            self._write(cell, told | {"share": share})

    def given(self, cell: Cell) -> Cell:
        """The cell with the share that it got last, if it asks for one and that is known."""
        if not cell.asked.is_auto or (share := self._read(cell)["share"]) is None:
            return cell
        return with_share(cell, share)

    def _read(self, cell: Cell) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads(self._file(cell).read_text())
            return {"cards": dict(told["cards"]), "share": told["share"]}
        return {"cards": {}, "share": None}

    def _write(self, cell: Cell, told: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # measured again next time
            write_whole(self._file(cell), json.dumps(told))

    def _file(self, cell: Cell) -> Path:
        return self._cache / f"gpu-share-{identity(cell)}.json"


def identity(cell: Cell) -> str:
    """Everything that the memory of a cell's trials may depend on."""
    spec = cell.trial.identity()
    spec.pop("seed", None)
    for part, path in (("train", "kimg"), ("train", "log_every_kimg"), ("optimizer", "lr")):
        if isinstance(spec.get(part), dict):
            spec[part].pop(path, None)
    for name in ("draws", "evaluations", "every_kimg", "noise_seed"):
        spec["evaluation"].pop(name, None)
    return digest([_VERSION, spec, cell.choices[0].workers])


def with_share(cell: Cell, share: float) -> Cell:
    """The cell with so much of a GPU for each worker of its trials."""
    return replace(cell, share=share)


def lines(cells: Sequence[Cell], measured: Mapping[str, Measured]) -> list[str]:
    """What was measured, a line for each share that is given: of the cell that takes most of it."""
    said = []
    for share in dict.fromkeys(cell.resources.gpus for cell in cells if cell.name in measured):
        mine = [c.name for c in cells if c.name in measured and c.resources.gpus == share]
        largest = max((measured[name] for name in mine), key=lambda one: one.taken / one.total)
        who = f" ({names(mine)})" if len(mine) < len(cells) else ""
        said.append(largest.text(share) + who)
    return said
