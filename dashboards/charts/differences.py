"""How far is each cell from the baseline, seed by seed? For notebooks and papers; the page draws `charts.forest`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from dashboards.charts import style
from dashboards.charts.style import finish, titled
from dashboards.verdict.values import Measure
from dashboards.verdict.wording import interval_text, size


def differences(
    measures: Sequence[Measure], names: Sequence[str], shade: Mapping[str, str]
) -> go.Figure:
    """A dot per seed, mean with 95 % interval, zero line and margin band; the first on top.

    `measures` are of one kind, each with a pair at least; ratios are drawn in percent. `shade`: cell to colour.
    """
    figure = go.Figure()
    unit = 100.0 if measures[0].ratio else 1.0
    reach = [0.0]
    for place, measure in enumerate(reversed(measures)):
        reach += _draw(figure, measure, place, shade[measure.cell], unit)
    if (margin := measures[0].margin) is not None:
        reach += [-unit * margin, unit * margin]
        band = {"fillcolor": style.INK, "opacity": 0.15, "line_width": 0, "layer": "below"}
        figure.add_vrect(-unit * margin, unit * margin, **band)
    figure.add_vline(0, line={"color": style.INK, "width": 1.2}, layer="below")
    low, high = min(reach), max(reach)
    room = 0.06 * (high - low)
    x = titled(f"difference in {measures[0].title}")
    x |= {"range": [low - room, high + room], "ticksuffix": " %" if measures[0].ratio else ""}
    y = {"range": [-0.6, len(measures) - 0.4], "showgrid": False, "automargin": True}
    y |= {"tickvals": list(range(len(measures))), "ticktext": list(reversed(names))}
    height = 120 + 70 * len(measures)
    return finish(figure, height=height, legend=False, hovermode="closest", x=x, y=y)


def _draw(figure: go.Figure, measure: Measure, row: int, colour: str, unit: float) -> list[float]:
    """Draw one line and return the values that have to be visible."""
    dots, mean = [unit * effect for effect in measure.effects], unit * measure.effect
    low, high = (
        mean if end is None else unit * end for end in (measure.interval.low, measure.interval.high)
    )
    figure.add_scatter(
        x=dots,
        y=[row - 0.22] * len(dots),
        mode="markers",
        marker={"color": colour, "size": 8, "opacity": 0.6},
        text=[f"seed {seed}" for seed in measure.seeds],
        hovertemplate="%{text}: %{x:.3~g}<extra></extra>",
    )
    error = {"symmetric": False, "array": [high - mean], "arrayminus": [mean - low]}
    figure.add_scatter(
        x=[mean],
        y=[row],
        error_x=error | {"color": colour, "thickness": 2.5, "width": 6},
        mode="markers",
        marker={"color": colour, "size": 12, "symbol": "diamond"},
        text=[f"mean {size(measure)} ({interval_text(measure)})"],
        hovertemplate="%{text}<extra></extra>",
    )
    return [*dots, low, high]
