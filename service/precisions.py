"""`train.precision: auto`: in which precision are an experiment's trials trained? Chosen once, kept beside it.

What is compared is trained alike, so one choice stands for all cells that ask for it, for whoever resumes the
experiment and for whoever extends it. A trial is the one of that precision: its key does not know who chose.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.shares import Shares
from trainer.calibrating import Chosen, asks, in_precision
from trainer.files import write_whole

if TYPE_CHECKING:
    from service.experiment.cell import Cell

KEPT = "precision.json"
"""In the experiment's directory."""


def asking(cells: Iterable[Cell], baseline: str | None = None) -> list[Cell]:
    """The cells whose precision is to be chosen, the baseline first."""
    found = [cell for cell in cells if asks(cell.trial)]
    return sorted(found, key=lambda cell: cell.name != baseline)


def known(directory: Path) -> Chosen | None:
    """What was chosen for the experiment of a directory."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Chosen(**json.loads((directory / KEPT).read_text()))
    return None


def keep(directory: Path, chosen: Chosen) -> None:
    """It stands from now on."""
    write_whole(directory / KEPT, json.dumps(asdict(chosen)))


def given(cell: Cell, chosen: Chosen | None) -> Cell:
    """The cell in the precision that was chosen, if it asks for that and one was."""
    if chosen is None or not asks(cell.trial):
        return cell
    return replace(cell, trial=in_precision(cell.trial, chosen.precision))


def measured_last(home: Path, experiment: str) -> Callable[[Cell], Cell]:
    """A cell with what was measured for it, where it asks for that: a share of a GPU, the precision."""
    shares, chosen = Shares(home / "cache"), known(home / "experiments" / experiment)
    return lambda cell: shares.given(given(cell, chosen))
