"""What does the page tell of the searches? Their charts, and a row for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dashboards.charts import tuning as charts
from dashboards.charts.style import PALETTE, colours
from dashboards.sweep import Sweep
from dashboards.text import names, number
from dashboards.tuning import Tuning

_WHO = {
    "tpe": "a tree-structured Parzen estimator",
    "gp": "a Gaussian process",
    "cmaes": "CMA-ES",
    "random": "chance",
}


def available(sweep: Sweep) -> dict[str, Callable[[], Any]]:
    """The charts for which there is data: name to what draws it."""
    begun = [found for found in sweep.tuning if found.best is not None]
    if not begun:
        return {}
    shade = colours(sweep.cells)
    drawn: dict[str, Callable[[], Any]] = {"tuning": partial(charts.budget, begun, shade)}
    for place, found in enumerate(begun):
        colour = shade.get(charts.name(found), PALETTE[-1])
        drawn[f"tuning_settings_{place}"] = partial(charts.settings, found, colour)
    if explained := [found for found in begun if found.importances]:
        drawn["tuning_importances"] = partial(charts.importances, explained, shade)
    return drawn


def figures(sweep: Sweep) -> dict[str, Any]:
    """All of them, drawn."""
    return {name: draw() for name, draw in available(sweep).items()}


def context(sweep: Sweep, drawn: Sequence[str]) -> dict[str, Any]:
    """What the template says beside them."""
    searches = sweep.tuning
    first = searches[0] if searches else None
    return {
        "tuning_is_over": all(found.winner is not None for found in searches),
        "searches": [_row(found) for found in searches],
        "tuning_metric": first.metric if first else "",
        "tuning_seeds": ", ".join(map(str, first.seeds)) if first else "",
        "tuning_by": _WHO.get(first.by, first.by) if first else "",
        "tuning_at_random": first is not None and first.by == "random",
        "tuning_shared": first is not None and len(first.cells) > 1,
        "tuning_settings": [
            {"cell": charts.name(found), "chart": f"tuning_settings_{place}"}
            for place, found in enumerate(one for one in searches if one.best is not None)
            if f"tuning_settings_{place}" in drawn
        ],
    }


def _row(found: Tuning) -> dict[str, str]:
    best = found.best
    return {
        "cell": charts.name(found),
        "candidates": f"{len(found.points)} of {found.planned}",
        "broken": str(sum(not math.isfinite(point.score) for point in found.points)),
        "so_far": "best so far" if best is not None and found.winner is None else "",
        "value": number(best.value) if best is not None else "n/a",
        "setting": _nothing(found)
        if best is None
        else ", ".join(f"{path} {value}" for path, value in best.setting.items()),
        "at_an_end": names(found.at_an_end),
        "number": "" if best is None else str(best.number),
    }


def _nothing(found: Tuning) -> str:
    if not found.points:
        return "none has ended yet"
    return "none works" if len(found.points) == found.planned else "none works yet"
