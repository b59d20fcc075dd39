"""What becomes of a cell when some of its values are others?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from service.experiment.cell import Cell
from trainer.errors import InputError, Problem
from trainer.trial import TrialSpec
from trainer.yaml.keys import Keys, split
from trainer.yaml.overrides import Layered, Origin
from trainer.yaml.source import Source


def tree_of(cell: Cell) -> Layered:
    """The cell's whole trial, to be changed. Only changes have a place in a file."""
    return Layered(cell.trial.model_dump(mode="json"), Origin(Source("", None), ()), TrialSpec)


def changed(cell: Cell, overrides: Mapping[str, Any]) -> Cell:
    """The cell with further overrides by dotted path. InputError where they make no trial."""
    tree, source = tree_of(cell), Source(f"cell {cell.name}", None)
    problems: list[Problem] = []
    for path, value in overrides.items():
        keys: Keys = split(path)
        problems += tree.merge(keys, value, Origin(source, keys)).problems
    if problems:
        raise InputError(problems)
    trial = cast(TrialSpec, tree.model_or_raise())
    return Cell(
        cell.name, {**cell.overrides, **overrides}, trial, cell.asked, cell.share, cell.limit
    )
