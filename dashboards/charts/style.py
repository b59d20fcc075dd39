"""How do charts look? Colours, ticks, buttons and the layout that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from types import MappingProxyType
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#C98500",
    "#3D9FD6",
    "#8C6BB1",
    "#7F7F7F",
)
"""Okabe and Ito's colours for all kinds of colour vision, the pale ones darkened for white."""
DASHES = ("solid", "dash", "dot", "dashdot")
INK = "#6b7280"
RULE = "rgba(128,128,128,0.22)"
TITLE: dict[str, Any] = {"font": {"size": 13}, "standoff": 10}
"""Of an axis."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def colours(cells: Sequence[str]) -> dict[str, str]:
    """The colour of every cell, the same in every chart; from the ninth on they repeat."""
    return dict(zip(cells, cycle(PALETTE), strict=False))


def round_ticks(values: Sequence[float]) -> dict[str, Any]:
    """Ticks of a logarithmic axis at 1, 2, 3, 5, 7 of every decade, fewer on long axes."""
    low, high = min(values), max(values)
    if low <= 0:
        return {}
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    digits = (1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [d * 10.0**k for k in decades for d in digits if 0.8 * low <= d * 10.0**k <= 1.2 * high]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def faded(colour: str, opacity: float) -> str:
    """A colour of the palette, partly transparent."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def axis_kinds(values: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Axis settings by name, `log` only for positive values; the first is to start with."""
    log, linear = {"type": "log", "tickmode": "array"}, {"type": "linear", "tickmode": "auto"}
    if min(values) <= 0:
        return {"linear": linear}
    wide = max(values) / min(values) > 5
    return {"log": log, "linear": linear} if wide else {"linear": linear, "log": log}


def with_gaps(lines: Sequence[Sequence[Any] | np.ndarray]) -> list[Any]:
    """One after the other, with nothing in between, so that many lines are one trace."""
    joined: list[Any] = []
    for line in lines:
        joined += [*([None] if joined else []), *np.asarray(line).tolist()]
    return joined


def layout(*, hovermode: str, height: int, legend: bool) -> dict[str, Any]:
    """The layout all charts share: no boxes, no background, legible on light and dark pages."""
    return {
        "template": "none",
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": INK},
        "margin": {"l": 64, "r": 16, "t": 12 if legend else 44, "b": 52},
        "hovermode": hovermode,
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
    }


def titled(text: str) -> dict[str, Any]:
    """The title of an axis, or none that is seen."""
    return {"title": {"text": text, **TITLE}}


def heading(text: str) -> dict[str, Any]:
    """The title of one of several small figures, at its left end."""
    return {"title": {"text": text, "font": {"size": 14}, "x": 0, "xref": "paper"}}


def _axis(own: Mapping[str, Any]) -> dict[str, Any]:
    """What both axes of all charts share, a faint grid and small titles, with what is an axis's own."""
    lines = {"gridcolor": RULE, "tickcolor": RULE, "linecolor": RULE, "zeroline": False}
    return lines | {"title": TITLE} | dict(own)


def plotly_javascript() -> str:
    """The plotly.js library, to be embedded once per page."""
    return str(get_plotlyjs())


def finish(
    figure: go.Figure,
    *,
    hovermode: str,
    height: int = 420,
    legend: bool = True,
    x: Mapping[str, Any] = NOTHING,
    y: Mapping[str, Any] = NOTHING,
    **own: Any,
) -> go.Figure:
    """The figure with the layout and the axes that all charts share, and its own settings of both.

    All in one update: each takes plotly a hundredth of a second.
    """
    shared = layout(hovermode=hovermode, height=height, legend=legend)
    shared["margin"] |= own.pop("margin", {})
    both = {"xaxis": _axis(x) | {"ticks": "outside"}, "yaxis": _axis(y)}
    return figure.update_layout(shared | own | both)
