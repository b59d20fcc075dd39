"""How much faster is each cell than the baseline? Speed-up over all targets."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboards.charts import style
from dashboards.charts.style import colours, finish, round_ticks, titled, with_gaps
from dashboards.sweep import Sweep
from dashboards.verdict.values import Verdicts

_RATIOS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20)


def speed_up(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Speed-up over all targets: geometric mean per cell, one thin line per seed."""
    figure = go.Figure()
    shade = colours(sweep.cells)
    for comparison in verdicts.comparisons:
        if comparison.lines is None:
            continue
        cell, colour = comparison.cell, shade[comparison.cell]
        lines = comparison.lines.per_seed
        figure.add_scatter(
            x=with_gaps([line.targets for line in lines]),
            y=with_gaps([line.ratios for line in lines]),
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
    targets = [t for trace in figure.data for t in trace.x if t is not None]
    ratios = [r for trace in figure.data for r in trace.y if r is not None] or [1.0]
    x = titled(f"target {verdicts.curve_quantity.heading}: easy to hard")
    if targets and min(targets) > 0:
        x |= {"type": "log", **round_ticks(targets)}
    if verdicts.curve_quantity.lower_is_better:
        x["autorange"] = "reversed"
    low, high = min(0.8, 0.95 * min(ratios)), max(1.25, 1.05 * max(ratios))
    steps = [s for s in _RATIOS if low <= s <= high]
    y = titled(f"times as fast as {verdicts.baseline}") | {"type": "log"}
    y |= {"range": [float(np.log10(low)), float(np.log10(high))]}
    y |= {"tickvals": steps, "ticktext": [f"{s:g}\u00d7" for s in steps]}
    return finish(figure, hovermode="x unified", x=x, y=y)
