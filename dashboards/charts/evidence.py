"""How did the evidence grow? Each cell's difference and its interval against the number of pairs, with the looks."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboards.charts import style
from dashboards.charts.style import colours, faded, finish
from dashboards.sweep import Sweep
from dashboards.text import percent, signed
from dashboards.verdict.looks import misses
from dashboards.verdict.statistics import Floats, interval
from dashboards.verdict.values import Measure, Verdicts

FEWEST = 3
"""Pairs from which on there is something to see."""


def evidence(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Mean difference of the first n pairs with its interval, over n; dotted lines are the planned looks.

    A star is where a word fell. Intervals are as wide as at the looks: all together miss in 5 %.
    """
    figure = go.Figure()
    shade, ends = colours(sweep.cells), [0.0]
    drawn = [c.final for c in verdicts.comparisons if c.final is not None]
    ratio = verdicts.quantity.ratio
    for measure in (m for m in drawn if len(m.seeds) > 1):
        ends += _growth(figure, measure, shade[measure.cell], verdicts.guarantee.looks)
    figure.add_hline(y=0, line={"color": style.INK, "width": 1.2})
    most = max((len(m.seeds) for m in drawn), default=2)
    for look in verdicts.guarantee.looks:
        if look <= most:
            figure.add_vline(
                look, line={"color": style.INK, "width": 1, "dash": "dot"}, layer="below"
            )
    if verdicts.margin is not None and drawn:
        wide = (100.0 if ratio else 1.0) * verdicts.margin
        figure.add_hrect(
            -wide, wide, fillcolor=style.INK, opacity=0.12, line_width=0, layer="below"
        )
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low or 1.0)
    figure.update_xaxes(title_text="pairs of seeds", dtick=1 if most <= 15 else None)
    figure.update_yaxes(
        title_text=f"difference in {verdicts.quantity.title} to {verdicts.baseline}",
        range=[low - room, high + room],
        ticksuffix=" %" if ratio else "",
    )
    return finish(figure, height=380, hovermode="x unified")


def _growth(
    figure: go.Figure, measure: Measure, colour: str, looks: tuple[int, ...]
) -> list[float]:
    """Draw one cell, and return the ends that have to be visible: of the first pairs only the means."""
    effects = np.asarray(measure.effects)
    scale = np.log1p(effects) if measure.ratio else effects
    counts = list(range(2, len(scale) + 1))
    means = [_shown(float(scale[:n].mean()), measure) for n in counts]
    bands = [_band(scale[:n], measure, looks) for n in counts]
    text = [
        f"{_text(mean, measure)} ({_text(low, measure)} to {_text(high, measure)})"
        for mean, (low, high) in zip(means, bands, strict=True)
    ]
    figure.add_scatter(
        x=[*counts, *counts[::-1]],
        y=[*(high for _, high in bands), *(low for low, _ in bands[::-1])],
        mode="lines",
        fill="toself",
        fillcolor=faded(colour, 0.18),
        line={"width": 0},
        legendgroup=measure.cell,
        showlegend=False,
        hoverinfo="skip",
    )
    is_decided = [n == measure.decided_at for n in counts]
    figure.add_scatter(
        x=counts,
        y=means,
        name=measure.cell,
        legendgroup=measure.cell,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={
            "size": [15 if decided else 6 for decided in is_decided],
            "symbol": ["star" if decided else "circle" for decided in is_decided],
        },
        text=text,
        hovertemplate="%{text}",
    )
    return [*means, *(end for n, band in zip(counts, bands, strict=True) if n >= 4 for end in band)]


def _band(values: Floats, measure: Measure, looks: tuple[int, ...]) -> tuple[float, float]:
    at = next((place for place, look in enumerate(looks) if len(values) <= look), len(looks) - 1)
    ends = interval(values, misses(looks)[at])
    mean = float(values.mean())
    low, high = (mean if end is None else end for end in (ends.low, ends.high))
    return _shown(low, measure), _shown(high, measure)


def _shown(value: float, measure: Measure) -> float:
    """In percent of a ratio, capped where a t interval of two pairs has no end in sight."""
    return 100 * float(np.expm1(min(value, 5.0))) if measure.ratio else value


def _text(value: float, measure: Measure) -> str:
    return percent(value / 100) if measure.ratio else signed(value)
