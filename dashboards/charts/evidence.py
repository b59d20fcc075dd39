"""How did the evidence grow? Each cell's difference and its interval against the number of pairs, with the looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dashboards.charts import style
from dashboards.charts.style import colours, faded, finish, titled
from dashboards.sweep import Sweep
from dashboards.text import percent, signed
from dashboards.verdict.anytime import anytime_interval
from dashboards.verdict.evidence import Evidence
from dashboards.verdict.looks import misses
from dashboards.verdict.statistics import Interval, interval
from dashboards.verdict.values import Measure, Verdicts

FEWEST = 3
"""Pairs from which on there is something to see."""
_NEAR = 2.0
"""A share: cells with larger differences do not decide what is seen of the others."""
_STEADY = 4
"""Pairs from which on the ends of an interval have to be visible; of fewer only the means."""


@dataclass(frozen=True)
class _Growth:
    """One cell's line: after each number of pairs the mean and its interval, in what is drawn."""

    measure: Measure
    counts: list[int]
    means: list[float]
    lows: list[float]
    highs: list[float]

    @property
    def is_near(self) -> bool:
        """Whether it may say which range is seen."""
        return not self.measure.ratio or abs(self.measure.effect) <= _NEAR

    @property
    def ends(self) -> list[float]:
        """What has to be visible of it."""
        steady = [n >= _STEADY for n in self.counts]
        bands = zip(steady, self.lows, self.highs, strict=True)
        return [*self.means, *(end for is_steady, *band in bands if is_steady for end in band)]


def evidence(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Mean difference of the first n pairs with its interval, over n; dotted lines are the planned looks.

    A star is where a word fell. Intervals are as wide as at the looks: all together miss in 5 %. The last
    point is the verdict's own.
    """
    figure, shade = go.Figure(), colours(sweep.cells)
    drawn = [c.final for c in verdicts.comparisons if c.final is not None]
    ratio = verdicts.quantity.ratio
    known = sweep.evidence
    lines = [_growth(known, verdicts, measure) for measure in drawn if len(measure.seeds) > 1]
    low, high = _range(lines)
    for line in lines:
        is_seen = any(low <= mean <= high for mean in line.means[-1:])
        _draw(figure, line, shade[line.measure.cell], is_seen)
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
    x = titled("pairs with a number in both") | ({"dtick": 1} if most <= 15 else {})
    y = titled(f"difference in {verdicts.quantity.title} to {verdicts.baseline}")
    y |= {"range": [low, high], "ticksuffix": " %" if ratio else ""}
    return finish(figure, height=380, hovermode="x unified", x=x, y=y)


def _range(lines: list[_Growth]) -> tuple[float, float]:
    """What is visible: of the cells that are near, if there are any, and no further than near is."""
    near = [line for line in lines if line.is_near]
    ends = [0.0, *(end for line in near or lines for end in line.ends)]
    if near and near[0].measure.ratio:
        ends = [min(max(end, -100 * _NEAR), 100 * _NEAR) for end in ends]
    room = 0.06 * (max(ends) - min(ends) or 1.0)
    return min(ends) - room, max(ends) + room


def _growth(known: Evidence, verdicts: Verdicts, measure: Measure) -> _Growth:
    effects = np.asarray(measure.effects)
    scale = np.log1p(effects) if measure.ratio else effects
    counts = list(range(2, len(scale) + 1))
    means = [_shown(float(scale[:n].mean()), measure) for n in counts]
    bands = [_mapped(_at(known, verdicts, measure, n), scale[:n].mean(), measure) for n in counts]
    whole = 100.0 if measure.ratio else 1.0
    means[-1] = whole * measure.effect
    low, high = (
        measure.effect if end is None else end
        for end in (measure.interval.low, measure.interval.high)
    )
    bands[-1] = (whole * low, whole * high)
    return _Growth(measure, counts, means, [low for low, _ in bands], [high for _, high in bands])


def _at(known: Evidence, verdicts: Verdicts, measure: Measure, n: int) -> Interval:
    """The interval that the verdict would have given after n pairs."""
    effects = np.asarray(measure.effects[:n])
    scale = np.log1p(effects) if measure.ratio else effects
    looks = verdicts.guarantee.looks
    seeds = known.seeds.index(measure.seeds[n - 1]) + 1
    if seeds > looks[-1]:
        return anytime_interval(scale)
    is_late = measure.cell in known.late
    family = [c for c in verdicts.comparisons if (c.cell in known.late) == is_late]
    screened = 1.0 + len(known.stopped) / max(1, len(family))
    place = next(at for at, look in enumerate(looks) if seeds <= look)
    return interval(scale, misses(looks)[place] / screened)


def _mapped(band: Interval, mean: float, measure: Measure) -> tuple[float, float]:
    low, high = (mean if end is None else end for end in (band.low, band.high))
    return _shown(low, measure), _shown(high, measure)


def _draw(figure: go.Figure, line: _Growth, colour: str, is_seen: bool) -> None:
    measure, counts = line.measure, line.counts
    text = [
        f"{_text(mean, measure)} ({_text(low, measure)} to {_text(high, measure)})"
        for mean, low, high in zip(line.means, line.lows, line.highs, strict=True)
    ]
    figure.add_scatter(
        x=[*counts, *counts[::-1]],
        y=[*line.highs, *line.lows[::-1]],
        mode="lines",
        fill="toself",
        fillcolor=faded(colour, 0.18),
        line={"width": 0},
        legendgroup=measure.cell,
        showlegend=False,
        hoverinfo="skip",
    )
    is_decided = [n == counts[-1] and measure.decided_at is not None for n in counts]
    beyond = "" if is_seen else f" (off the axis: {_text(line.means[-1], measure)})"
    figure.add_scatter(
        x=counts,
        y=line.means,
        name=measure.cell + beyond,
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


def _shown(value: float, measure: Measure) -> float:
    """In percent of a ratio, capped where a t interval of two pairs has no end in sight."""
    return 100 * float(np.expm1(min(value, 5.0))) if measure.ratio else value


def _text(value: float, measure: Measure) -> str:
    return percent(value / 100) if measure.ratio else signed(value)
