"""What does the page show of the loss by noise level? Which panels there are, and what is said beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboards.charts import levels as charts
from dashboards.levels import Levels, by_cell
from dashboards.sweep import Sweep
from dashboards.text import counted

_COLUMNS, _FEWEST = 160, 6
"""Parts of training over all cells' panels, and the fewest of one panel: what the page can carry."""
_MOST_COLUMNS = 32
_SEEN_AT_ONCE = 6
"""Cells whose panels are open from the start."""


def figures(sweep: Sweep) -> dict[str, Any]:
    """The panels: `levels_loss_0` of the first cell, `levels_against_1`, `levels_gradient_0`."""
    found = _found(sweep)
    if not found:
        return {}
    place = {cell: at for at, cell in enumerate(sweep.cells)}
    groups = {
        "loss": charts.losses(found),
        "against": charts.differences(found, sweep.baseline or ""),
        "gradient": charts.moments(found),
    }
    return {
        f"levels_{group}_{place[cell]}": figure
        for group, panels in groups.items()
        for cell, figure in panels.items()
    }


def context(sweep: Sweep, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the panels by group, those that are seen at once apart, and how many trials they are of."""
    names = {
        group: [name for name in drawn if name.startswith(f"levels_{group}_")]
        for group in ("loss", "against", "gradient")
    }
    trials = sum(cell in sweep.cells for cell, _ in sweep.levels)
    return {
        "levels": {
            group: {"seen": own[:_SEEN_AT_ONCE], "more": own[_SEEN_AT_ONCE:]}
            for group, own in names.items()
        }
        if drawn
        else {},
        "levels_trials": counted(trials, "trial"),
    }


def _found(sweep: Sweep) -> dict[str, Levels]:
    cells = len({cell for cell, _ in sweep.levels})
    columns = min(_MOST_COLUMNS, max(_FEWEST, _COLUMNS // max(1, cells)))
    return by_cell(sweep.levels, sweep.cells, columns)
