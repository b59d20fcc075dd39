"""What do further protocols show? Differences by seed of the same trainings, each against its own other."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.charts import style
from dashboards.charts.comparison import draw_differences, unit_of
from dashboards.charts.style import colours, finish
from dashboards.sweep import Sweep
from dashboards.verdict.values import Verdicts


def row_colours(sweep: Sweep, verdicts: Verdicts | None) -> dict[str, str]:
    """The colour of every cell, and of its rows under further protocols: the same."""
    shade = colours(sweep.cells)
    rows = [row for c in (verdicts.rows if verdicts else ()) for row in (c.row, c.against)]
    return shade | {row.name: shade[row.cell] for row in rows}


def row_differences(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Paired differences under further protocols: a dot per seed, mean with CI, zero line, margin band.

    Some pair has to have a number.
    """
    shade = colours(sweep.cells)
    drawn = [(c, c.final) for c in verdicts.rows if c.final is not None and c.final.seeds]
    figure = make_subplots()
    reach = [0.0]
    for place, (compared, measure) in enumerate(reversed(drawn)):
        reach += draw_differences(figure, measure, place, shade[compared.row.cell])
    margin, is_ratio = drawn[0][1].margin, drawn[0][1].ratio  # of all
    if margin is not None:
        wide = unit_of(is_ratio) * margin
        reach += [-wide, wide]
        band = {"fillcolor": style.INK, "opacity": 0.15, "line_width": 0, "layer": "below"}
        figure.add_vrect(-wide, wide, **band)
    figure.add_vline(0, line={"color": style.INK, "width": 1.2}, layer="below")
    low, high = min(reach), max(reach)
    room = 0.06 * (high - low)
    title = f"difference in {verdicts.quantity.title}"
    figure.update_xaxes(range=[low - room, high + room], ticksuffix=" %" if is_ratio else "")
    figure.update_xaxes(title_text=title)
    names = [f"{c.row.name} \N{MINUS SIGN} {c.against.name}" for c, _ in reversed(drawn)]
    figure.update_yaxes(range=[-0.6, len(drawn) - 0.4], showgrid=False, automargin=True)
    figure.update_yaxes(tickvals=list(range(len(drawn))), ticktext=names)
    return finish(figure, height=120 + 60 * len(drawn), legend=False, hovermode="closest")
