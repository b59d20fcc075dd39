"""How did a search go? The best against what was spent, the settings that were tried, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.charts import style
from dashboards.charts.style import faded, finish, round_ticks, titled
from dashboards.text import number
from dashboards.tuning import Tuning, best_of_any_order

_TOGETHER = "all cells"
_LINE = 0.09
"""Share of an axis that a line of text takes."""
_MOST_WORDS = 8
"""Values of one axis that are written beside it."""


def name(found: Tuning) -> str:
    """Whose search it is."""
    return found.cells[0] if len(found.cells) == 1 else _TOGETHER


def budget(searches: Sequence[Tuning], shade: Mapping[str, str]) -> go.Figure:
    """The best value so far against candidates spent, a dot for each candidate.

    For a random search the line is the median over all orders of its candidates, with the middle 80 %.
    """
    figure = go.Figure()
    values: list[float] = []
    for found in searches:
        colour = shade.get(name(found), style.INK)
        sound = [(k, p) for k, p in enumerate(found.points, 1) if math.isfinite(p.value)]
        figure.add_scatter(
            x=[place for place, _ in sound],
            y=[point.value for _, point in sound],
            mode="markers",
            marker={"color": colour, "size": 6, "opacity": 0.45},
            text=[_words(point.setting) for _, point in sound],
            hovertemplate="%{y:.4g}: %{text}<extra></extra>",
            legendgroup=name(found),
            showlegend=False,
        )
        values += [point.value for _, point in sound]
        _best(figure, found, colour)
    x, y = titled("candidates spent") | {"rangemode": "tozero"}, titled(searches[0].metric)
    if values and min(values) > 0 and max(values) > 3 * min(values):
        y |= {"type": "log", **round_ticks(values)}
    return finish(figure, hovermode="closest", x=x, y=y)


def _best(figure: go.Figure, found: Tuning, colour: str) -> None:
    line = {"color": colour, "width": 2.5, "shape": "hv"}
    x = [spent for spent, _ in found.running_best]
    y = [value for _, value in found.running_best]
    if found.by == "random" and len(found.points) > 1:
        band = best_of_any_order(found.points)
        x, y = band.spent, band.middle
        line.pop("shape")
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*band.high, *band.low[::-1]],
            mode="lines",
            fill="toself",
            fillcolor=faded(colour, 0.18) if colour.startswith("#") else colour,
            line={"width": 0},
            legendgroup=name(found),
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=x,
        y=y,
        name=name(found),
        legendgroup=name(found),
        mode="lines",
        line=line,
        hovertemplate="%{y:.4g} after %{x}",
    )


def settings(found: Tuning, colour: str) -> go.Figure:
    """Parallel coordinates: a line for each candidate through its values, the last axis its number; the best is bold.

    Axes run from the low to the high end of what was searched; the last from the worst number to the best one.
    """
    figure = go.Figure()
    sound = sorted(
        (p for p in found.points if math.isfinite(p.value)), key=lambda p: (p.score, p.number)
    )
    paths = list(found.points[0].place) if found.points else []
    count = len(sound)
    heights = _heights([point.value for point in sound], lower_is_better=found.lower_is_better)
    for rank in reversed(range(count)):
        point, is_best = sound[rank], rank == 0
        share = 1.0 - rank / max(1, count - 1)
        figure.add_scatter(
            x=list(range(len(paths) + 1)),
            y=[*(point.place[path] for path in paths), heights[rank]],
            mode="lines",
            line={
                "color": colour if is_best else faded(colour, 0.10 + 0.45 * share**2),
                "width": 3.5 if is_best else 1.4,
            },
            text=[f"{number(point.value)}: {_words(point.setting)}"] * (len(paths) + 1),
            hovertemplate="%{text}<extra></extra>",
        )
    for place in range(len(paths) + 1):
        figure.add_vline(place, line={"color": style.INK, "width": 1}, layer="below")
    for place, path in enumerate(paths):
        _ticks(figure, place, {point.place[path]: point.setting[path] for point in sound})
    if sound:
        ends = {heights[0]: number(sound[0].value), heights[-1]: number(sound[-1].value)}
        _ticks(figure, len(paths), ends)
    x = {"tickvals": list(range(len(paths) + 1)), "ticktext": [*paths, found.metric]}
    x |= {"range": [-0.15, len(paths) + 0.35], "showgrid": False, "side": "top"}
    return finish(
        figure,
        hovermode="closest",
        height=280,
        legend=False,
        x=x,
        y={"range": [-0.06, 1.06], "visible": False},
        margin={"t": 56, "b": 16},
    )


def _heights(values: Sequence[float], *, lower_is_better: bool) -> list[float]:
    """Where numbers stand on the last axis: the best at 1, even in the logarithm where all are positive."""
    if not values:
        return []
    scale = [math.log(value) for value in values] if min(values) > 0 else list(values)
    low, high = min(scale), max(scale)
    places = [(one - low) / (high - low) if high > low else 1.0 for one in scale]
    return [1.0 - place if lower_is_better and high > low else place for place in places]


def _ticks(figure: go.Figure, place: int, written: Mapping[float, str]) -> None:
    """A few values beside an axis: all of a short list, otherwise both ends; none in another's way."""
    marks = sorted(written.items())
    if len(marks) > _MOST_WORDS:
        marks = [marks[0], marks[-1]]
    kept = marks[-1:]
    for mark in marks[-2::-1]:
        is_apart = kept[-1][0] - mark[0] >= _LINE
        if is_apart and (mark is marks[0] or mark[0] - marks[0][0] >= _LINE):
            kept.append(mark)
    for height, text in ((height, _short(text)) for height, text in kept):
        figure.add_annotation(
            x=place,
            y=height,
            text=text if len(text) <= 24 else f"{text[:23]}...",
            showarrow=False,
            xanchor="left",
            xshift=5,
            yshift=9,
            font={"size": 11, "color": style.INK},
        )


def _short(text: str) -> str:
    """A long number at three digits."""
    try:
        return f"{float(text):.3g}" if len(text) > 6 else text
    except ValueError:
        return text


def importances(searches: Sequence[Tuning], shade: Mapping[str, str]) -> go.Figure:
    """The share of each path in the variance of the score, a bar for each search."""
    paths = list(dict.fromkeys(path for found in searches for path in found.importances))
    figure = make_subplots()
    for found in searches:
        figure.add_bar(
            y=paths[::-1],
            x=[100 * found.importances.get(path, 0.0) for path in paths[::-1]],
            name=name(found),
            orientation="h",
            marker={"color": shade.get(name(found), style.INK)},
            hovertemplate="%{x:.0f} %",
        )
    return finish(
        figure,
        hovermode="closest",
        height=130 + len(paths) * (22 + 16 * len(searches)),
        legend=len(searches) > 1,
        x=titled("share in the variance of the score") | {"ticksuffix": " %", "range": [0, 100]},
        y={"automargin": True, "showgrid": False},
        barmode="group",
        bargap=0.35,
    )


def _words(setting: Mapping[str, str]) -> str:
    return ", ".join(f"{path} {value}" for path, value in setting.items())
