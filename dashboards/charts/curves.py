"""How do numbers change over training? The convergence curve of each cell, and its training loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.charts import style
from dashboards.charts.effort import Effort, meta_of, with_efforts
from dashboards.charts.style import colours, faded, finish, round_ticks, titled, with_gaps
from dashboards.metrics import heading, quantities, title
from dashboards.sweep import Sweep
from dashboards.text import number
from dashboards.verdict.statistics import mean_interval
from dashboards.verdict.wording import band_text

_POINTS_PER_LOSS_CURVE, _POINTS_OF_ALL = 160, 16_000
"""At most so many of a trial, and about so many of all trials: more than a screen can show."""


def convergence(
    sweep: Sweep, metric: str | None = None, *, cells: Sequence[str] | None = None
) -> go.Figure:
    """Metric over kimg: mean per cell with the 95 % interval of it; single seeds are there, but not shown.

    Means are over finished trials only; the others are dotted up to where they are. Only `cells`
    are drawn where given. The x axis is logarithmic when evaluations come at doublings. `meta` of
    layout and traces has the other ways to measure the effort (`charts.effort`) and the kinds of y
    axis. Raises `IncomparableError` when the drawn cells were measured under different protocols.
    """
    metric = sweep.curve_metric if metric is None else metric
    sweep.protocol(metric, cells)
    figure = go.Figure()
    known = quantities([metric], sweep.space)
    ratio = metric in known and known[metric].ratio
    done = set(sweep.finished["trial_key"])
    rows = sweep.curve(metric)
    rows = rows[np.isfinite(rows["value"]) & rows["cell"].isin(cells or sweep.cells)]
    rows, ways = with_efforts(sweep, rows)
    name = title(metric, sweep.space)
    for cell, colour in colours(sweep.cells).items():
        own = rows[rows["cell"] == cell]
        ended = own["trial_key"].isin(done)
        _seed_lines(figure, own[ended], ways, cell, colour, name)
        _unfinished(figure, own[~ended], ways, cell, colour, name, alone=not ended.any())
        _mean_with_band(figure, own[ended], ways, cell, colour, ratio=ratio)
    log = _doublings(sorted({float(k) for k in rows["kimg"] if k > 0}))
    meta: dict[str, Any] = {"seeds": int(rows["trial_key"].nunique())}
    meta["x"] = meta_of(ways, {way.name: way.values(rows) for way in ways}, log=log)
    y, values = titled(heading(metric, sweep.space)), rows["value"].tolist()
    if values:
        kinds = style.axis_kinds(values)
        y |= round_ticks(values) | next(iter(kinds.values()))
        meta["y"] = [{"name": kind, "axis": axis} for kind, axis in kinds.items()]
    return finish(figure, hovermode="x unified", x=meta["x"][0]["axis"], y=y, meta=meta)


def _doublings(points: Sequence[float]) -> bool:
    """Whether ascending points grow by about the same factor; the last may end the budget early."""
    ratios = [after / before for before, after in pairwise(points)][:-1]
    if len(ratios) < 2:
        return False
    middle = float(np.median(ratios))
    return middle >= 1.5 and all(abs(ratio / middle - 1) <= 0.1 for ratio in ratios)


def _lines(rows: pd.DataFrame, ways: list[Effort], name: str) -> dict[str, Any]:
    """One trace of all trials of a cell: x, y, the seed of each point, and other x in its `meta`."""
    lines = [line for _, line in rows.groupby(["seed", "trial_key"], observed=True)]
    by = {way.name: with_gaps([way.values(line) for line in lines]) for way in ways}
    return {
        "x": by.pop("kimg"),
        "y": with_gaps([line["value"].to_numpy() for line in lines]),
        "customdata": with_gaps([line["seed"].to_numpy() for line in lines]),
        "meta": {"x": by},
        "hovertemplate": f"seed %{{customdata}}: {name} %{{y:.4~g}} at %{{x:.4~g}} kimg",
    }


def _seed_lines(
    figure: go.Figure, rows: pd.DataFrame, ways: list[Effort], cell: str, colour: str, name: str
) -> None:
    """Trials that finished; hidden until somebody asks for them."""
    if not len(rows):
        return
    line = _lines(rows, ways, name)
    line["meta"]["role"] = "seeds"
    figure.add_scatter(
        **line,
        name=cell,
        mode="lines",
        line={"color": colour, "width": 1},
        opacity=0.45,
        visible=False,
        legendgroup=cell,
        showlegend=False,
    )


def _unfinished(
    figure: go.Figure,
    rows: pd.DataFrame,
    ways: list[Effort],
    cell: str,
    colour: str,
    name: str,
    *,
    alone: bool,
) -> None:
    """Trials that have not finished: dotted, a cross where they are; `alone`, they stand for their cell."""
    if not len(rows):
        return
    line = _lines(rows, ways, name)
    ends = [after is None for after in [*line["x"][1:], None]]
    figure.add_scatter(
        **line,
        name=cell if alone else f"{cell}, not finished",
        mode="lines+markers",
        line={"color": colour, "width": 1, "dash": "dot"},
        marker={"symbol": "x-thin", "size": [11 if end else 0 for end in ends]}
        | {"line": {"color": colour, "width": 2}},
        legendgroup=cell,
        showlegend=alone,
    )


def _mean_with_band(
    figure: go.Figure,
    rows: pd.DataFrame,
    ways: list[Effort],
    cell: str,
    colour: str,
    *,
    ratio: bool,
) -> None:
    groups = [group for _, group in rows.groupby("images")]
    if not groups:
        return
    samples = [group["value"].to_numpy(dtype=np.float64) for group in groups]
    mean = [float(values.mean()) for values in samples]
    bands = [mean_interval(values, ratio=ratio) for values in samples]
    low = [m if band.low is None else band.low for m, band in zip(mean, bands, strict=True)]
    high = [m if band.high is None else band.high for m, band in zip(mean, bands, strict=True)]
    at = {way.name: [float(way.values(group).mean()) for group in groups] for way in ways}
    kimg = at.pop("kimg")
    figure.add_scatter(
        x=[*kimg, *kimg[::-1]],
        y=[*high, *low[::-1]],
        mode="lines",
        fill="toself",
        fillcolor=faded(colour, 0.18),
        line={"width": 0},
        meta={"x": {way: [*x, *x[::-1]] for way, x in at.items()}},
        legendgroup=cell,
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=kimg,
        y=mean,
        name=cell,
        legendgroup=cell,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"size": 6},
        meta={"x": at, "role": "mean"},
        text=[f"{number(m)}: {band_text(band)}" for m, band in zip(mean, bands, strict=True)],
        hovertemplate="%{text}",
    )


def training_loss(sweep: Sweep, metric: str = "train/loss") -> go.Figure:
    """Training loss of all trials, averaged over short windows; never comparable across cells."""
    figure = go.Figure()
    rows = sweep.curve(metric)
    rows = rows[np.isfinite(rows["value"])]
    most = max(12, min(_POINTS_PER_LOSS_CURVE, _POINTS_OF_ALL // max(1, len(sweep.trials))))
    values: list[float] = []
    for cell, colour in colours(sweep.cells).items():
        own = rows[rows["cell"] == cell]
        if not len(own):
            continue
        seeds = own["seed"].unique()
        lines = [_thinned(line, most) for _, line in own.groupby("seed")]
        values += [float(value) for line in lines for value in line[1]]
        figure.add_scatter(
            x=with_gaps([line[0] for line in lines]),
            y=with_gaps([line[1] for line in lines]),
            customdata=with_gaps(
                [[int(seed)] * line.shape[1] for seed, line in zip(seeds, lines, strict=True)]
            ),
            name=cell,
            legendgroup=cell,
            mode="lines",
            line={"color": colour, "width": 1},
            opacity=0.8,
            hovertemplate="seed %{customdata}: loss %{y:.3g} at %{x:.4~g} kimg",
        )
    x = titled("thousand training images (kimg)") | {"rangemode": "tozero"}
    y = titled("training loss (not comparable across cells)")
    if values and min(values) > 0:
        y |= {"type": "log", **round_ticks(values)}
    return finish(figure, height=380, hovermode="closest", x=x, y=y)


def _thinned(line: pd.DataFrame, most: int) -> np.ndarray:
    """kimg and value [2, n] of at most so many points, each the mean of a window."""
    both = line[["kimg", "value"]].to_numpy(dtype=np.float64).T
    starts = np.arange(0, both.shape[1], -(-both.shape[1] // most))
    return np.add.reduceat(both, starts, axis=1) / np.diff([*starts, both.shape[1]])
