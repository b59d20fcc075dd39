"""Which figures does a page have? Those for which there is data, as small as they can travel, and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from dashboards.charts import evidence as growth
from dashboards.charts.comparison import speed_up
from dashboards.charts.curves import convergence, training_loss
from dashboards.charts.passports import NAMES, Passport, passports
from dashboards.html import packed, script_json
from dashboards.sweep import Sweep
from dashboards.text import number
from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.values import Verdicts

_PACKED_FROM = 16_000
"""Characters from which on a figure travels compressed."""
_DIGITS = 5
"""Significant ones of a number that is drawn: more than a screen can show."""


@dataclass(frozen=True)
class Drawn:
    """A figure as the page carries it."""

    text: Markup
    """Its JSON, or that compressed."""
    is_packed: bool
    label: str
    """What it shows, for those who do not see it."""
    legend: tuple[tuple[str, str], ...]
    """Name and colour of what can be shown and hidden."""
    meta: dict[str, Any]
    """What can be switched: `x`, `y`, `seeds` (see `charts.curves.convergence`)."""
    height: int


def available(sweep: Sweep, verdicts: Verdicts | None) -> dict[str, Callable[[], Any]]:
    """The figures for which there is data: name to what draws it.

    That of the convergence raises IncomparableError where its cells were measured under different protocols.
    """
    found: dict[str, Callable[[], Any]] = {}
    if len(sweep.curve(sweep.curve_metric)):
        found["convergence"] = lambda: convergence(sweep)
    if verdicts is not None:
        if any(c.lines is not None for c in verdicts.comparisons):
            found["speed_up"] = lambda: speed_up(sweep, verdicts)
        pairs = [len(c.final.seeds) for c in verdicts.comparisons if c.final]
        if max(pairs, default=0) >= growth.FEWEST:
            found["evidence"] = lambda: growth.evidence(sweep, verdicts)
    if len(sweep.curve("train/loss")):
        found["training_loss"] = lambda: training_loss(sweep)
    return found


def of_sweep(sweep: Sweep, verdicts: Verdicts | None) -> tuple[dict[str, Any], str]:
    """All of them, drawn, and why the convergence chart lacks cells."""
    found, refused = available(sweep, verdicts), ""
    drawn = {name: draw() for name, draw in found.items() if name != "convergence"}
    if "convergence" in found:
        try:
            drawn["convergence"] = found["convergence"]()
        except IncomparableError as error:
            refused = str(error)
            if verdicts is not None:
                compared = [verdicts.baseline, *(c.cell for c in verdicts.comparisons)]
                drawn["convergence"] = convergence(sweep, cells=compared)
    return drawn, refused


def available_passports(
    cards: Callable[[], Mapping[str, Passport]],
) -> dict[str, Callable[[], Any]]:
    """Those of the cells' objective passports, which are asked for when one is drawn."""

    def draw(name: str) -> Callable[[], Any]:
        return lambda: passports(cards())[name]

    return {f"passport_{name}": draw(name) for name in NAMES}


def of_passports(cards: Mapping[str, Passport]) -> dict[str, Any]:
    """Those of the cells' objective passports."""
    figures = passports(cards) if cards else {}
    return {f"passport_{name}": figure for name, figure in figures.items()}


def carried(drawn: Mapping[str, Any]) -> dict[str, Drawn]:
    """By name, as the page carries them."""
    return {name: _carried(figure) for name, figure in drawn.items()}


def _carried(figure: Any) -> Drawn:
    legend = tuple(_legend(figure))
    whole = _plain(figure.to_plotly_json())
    layout = whole["layout"]
    layout.pop("template", None)
    layout["showlegend"] = (
        False  # it is beside the figure, as buttons that every width has room for
    )
    text = script_json(json.dumps(whole, separators=(",", ":")))
    is_packed = len(text) > _PACKED_FROM
    return Drawn(
        text=packed(text) if is_packed else text,
        is_packed=is_packed,
        label=_label(figure, [name for name, _ in legend]),
        legend=legend,
        meta={"x": [], "y": [], "seeds": 0} | layout.get("meta", {}),
        height=int(layout.get("height", 420)),
    )


def _legend(figure: Any) -> Iterator[tuple[str, str]]:
    if not figure.layout.showlegend:
        return
    for trace in figure.data:
        if trace.name and trace.showlegend is not False:
            style = trace.marker if trace.type == "bar" else trace.line
            yield str(trace.name), str(style.color or "currentColor")


def _label(figure: Any, names: list[str]) -> str:
    """Axes, cells, and where the means end."""
    layout = figure.layout
    over = layout.xaxis.title.text
    what = ": ".join(filter(None, [layout.title.text, layout.yaxis.title.text]))
    said = f"Figure: {what}{f' over {over}' if over else ''}"
    ends = [
        f"{trace.name} ends at {number(float(trace.y[-1]))}"
        for trace in figure.data
        if isinstance(trace.meta, dict) and trace.meta.get("role") == "mean"
    ]
    listed = ends or names
    return f"{said}{': ' if listed else ''}{', '.join(listed)}"


def _plain(value: Any) -> Any:
    """JSON of plain numbers, no longer than they can be seen; what is no number is null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        short = float(f"{value:.{_DIGITS}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return value
