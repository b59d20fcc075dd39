"""How does each cell compare with the baseline? Speed-up over all targets, differences by seed."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.charts import style
from dashboards.charts.style import colours, finish, round_ticks
from dashboards.sweep import Sweep
from dashboards.verdict.values import Measure, Verdicts
from dashboards.verdict.wording import interval_text, size

_RATIOS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20)


def speed_up(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Speed-up over all targets: geometric mean per cell, one thin line per seed."""
    figure = go.Figure()
    shade = colours(sweep.cells)
    for comparison in verdicts.comparisons:
        if comparison.lines is None:
            continue
        cell, colour = comparison.cell, shade[comparison.cell]
        for line in comparison.lines.per_seed:
            figure.add_scatter(
                x=line.targets,
                y=line.ratios,
                mode="lines",
                line={"color": colour, "width": 1},
                opacity=0.45,
                legendgroup=cell,
                showlegend=False,
                hoverinfo="skip",
            )
        if comparison.lines.mean is not None:
            figure.add_scatter(
                x=comparison.lines.mean.targets,
                y=comparison.lines.mean.ratios,
                name=cell,
                legendgroup=cell,
                mode="lines",
                line={"color": colour, "width": 2.5},
                hovertemplate="%{y:.2f}x",
            )
    figure.add_hline(y=1, line={"color": style.INK, "width": 1.5, "dash": "dash"})
    targets = [t for trace in figure.data for t in trace.x]
    ratios = [r for trace in figure.data for r in trace.y] or [1.0]
    figure.update_xaxes(title_text=f"target {verdicts.curve_quantity.heading}: easy to hard")
    if targets and min(targets) > 0:
        figure.update_xaxes(type="log", **round_ticks(targets))
    if verdicts.curve_quantity.lower_is_better:
        figure.update_xaxes(autorange="reversed")
    low, high = min(0.8, 0.95 * min(ratios)), max(1.25, 1.05 * max(ratios))
    steps = [s for s in _RATIOS if low <= s <= high]
    figure.update_yaxes(title_text=f"times as fast as {verdicts.baseline}", type="log")
    figure.update_yaxes(range=[float(np.log10(low)), float(np.log10(high))])
    figure.update_yaxes(tickvals=steps, ticktext=[f"{s:g}\u00d7" for s in steps])
    return finish(figure, hovermode="x unified")


def paired_differences(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Paired differences: a dot per seed, mean with CI, zero line, margin band; each measure in its unit."""
    panels = {
        "final": f"final {verdicts.quantity.title}",
        "area": f"mean {verdicts.curve_quantity.title}",
        "target": "kimg to target",
        "speed": "speed",
    }
    drawn = {
        name: [m for c in verdicts.comparisons for m in c.measures() if m.name == name and m.seeds]
        for name in panels
    }
    shown = [name for name in panels if drawn[name]]
    figure = make_subplots(
        cols=max(1, len(shown)),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[panels[name] for name in shown],
    )
    shade = colours(sweep.cells)
    cells = [c.cell for c in verdicts.comparisons]
    reaches: dict[bool, list[float]] = {True: [0.0], False: [0.0]}
    for column, name in enumerate(shown, start=1):
        for measure in drawn[name]:
            row = len(cells) - 1 - cells.index(measure.cell)
            reach = draw_differences(figure, measure, row, shade[measure.cell], column)
            reaches[measure.ratio] += reach
        margin, ratio = drawn[name][0].margin, drawn[name][0].ratio
        if margin is not None:
            wide = unit_of(ratio) * margin
            reaches[ratio] += [-wide, wide]
            band = {"fillcolor": style.INK, "opacity": 0.15, "line_width": 0, "layer": "below"}
            figure.add_vrect(-wide, wide, row=1, col=column, **band)
        figure.add_vline(
            0, row=1, col=column, line={"color": style.INK, "width": 1.2}, layer="below"
        )
    for column, name in enumerate(shown, start=1):
        ratio = drawn[name][0].ratio
        low, high = min(reaches[ratio]), max(reaches[ratio])
        room = 0.06 * (high - low)
        figure.update_xaxes(range=[low - room, high + room], nticks=4, tickangle=0, col=column)
        figure.update_xaxes(ticksuffix=" %" if ratio else "", col=column)
    figure.update_xaxes(title_text=f"difference to {verdicts.baseline}")
    figure.update_yaxes(range=[-0.6, len(cells) - 0.4], showgrid=False, automargin=True)
    figure.update_yaxes(tickvals=list(range(len(cells))), ticktext=cells[::-1])
    figure.update_annotations(font={"size": 13})
    return finish(figure, height=150 + 80 * len(cells), legend=False, hovermode="closest")


def unit_of(ratio: bool) -> float:
    """Ratios are drawn in percent."""
    return 100.0 if ratio else 1.0


def draw_differences(
    figure: go.Figure, measure: Measure, row: int, colour: str, column: int = 1
) -> list[float]:
    """Draw one cell's differences and return the values that have to be visible."""
    unit = unit_of(measure.ratio)
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
        row=1,
        col=column,
    )
    figure.add_scatter(
        x=[mean],
        y=[row],
        error_x={
            "symmetric": False,
            "array": [high - mean],
            "arrayminus": [mean - low],
            "color": colour,
            "thickness": 2.5,
            "width": 6,
        },
        mode="markers",
        marker={"color": colour, "size": 12, "symbol": "diamond"},
        text=[f"mean {size(measure)} ({interval_text(measure)})"],
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=column,
    )
    return [*dots, low, high]
