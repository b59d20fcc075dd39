"""In which values do the cells of an experiment differ?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.experiment.cell import Cell


def differing(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Dotted path in a trial to the value of each cell, for the paths at which not all cells have the same.

    A cell without such a value, as of a setting that another kind of the family lacks, is left out there. Lists are
    values: `(24, 48)`.
    """
    flat = {cell.name: _flat(cell.trial.model_dump(exclude={"seed"})) for cell in cells}
    paths = dict.fromkeys(path for values in flat.values() for path in values)
    found = {}
    for path in paths:
        of_cells = {cell: values[path] for cell, values in flat.items() if path in values}
        first = next(iter(of_cells.values()))
        if len(of_cells) < len(flat) or any(value != first for value in of_cells.values()):
            found[path] = of_cells
    return found


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            inner: leaf
            for key, below in value.items()
            for inner, leaf in _flat(below, f"{path}.{key}" if path else str(key)).items()
        }
    return {path: tuple(value) if isinstance(value, list) else value}
