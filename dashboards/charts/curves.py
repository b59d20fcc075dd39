"""How do numbers change over training? The convergence curve of each cell, and its training loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.charts import style
from dashboards.charts.style import colours, faded, finish, round_ticks
from dashboards.metrics import heading, quantities
from dashboards.sweep import Sweep
from dashboards.text import number
from dashboards.verdict.comparable import quantity
from dashboards.verdict.statistics import mean_interval
from dashboards.verdict.wording import band_text

_POINTS_PER_LOSS_CURVE = 160


def convergence(
    sweep: Sweep, metric: str | None = None, *, cells: Sequence[str] | None = None
) -> go.Figure:
    """Metric over kimg: mean per cell with the 95 % interval of it, one thin line per seed.

    Means are over finished trials only; the others are dotted up to where they ended. Only `cells`
    are drawn where given. The kimg axis is logarithmic when evaluations come at doublings. Raises
    `IncomparableError` when the drawn cells were measured under different protocols.
    """
    metric = sweep.curve_metric if metric is None else metric
    sweep.protocol(metric, cells)
    figure = go.Figure()
    known = quantities([metric], sweep.space)
    ratio = metric in known and known[metric].ratio
    done = set(sweep.finished["trial_key"])
    rows = sweep.curve(metric)
    rows = rows[np.isfinite(rows["value"]) & rows["cell"].isin(cells or sweep.cells)]
    for cell, colour in colours(sweep.cells).items():
        own = rows[rows["cell"] == cell]
        _seed_lines(figure, own, colour, done)
        _mean_with_band(figure, own[own["trial_key"].isin(done)], cell, colour, ratio=ratio)
    figure.update_xaxes(title_text="thousand training images (kimg)", rangemode="tozero")
    kimg = sorted({float(k) for k in rows["kimg"] if k > 0})
    if _doublings(kimg):
        figure.update_xaxes(type="log", rangemode="normal", **round_ticks(kimg))
    figure.update_yaxes(title_text=heading(metric, sweep.space))
    values = rows["value"].tolist()
    if values:
        kinds = style.axis_kinds(values)
        figure.update_yaxes(**round_ticks(values)).update_yaxes(**next(iter(kinds.values())))
        at_top = metric.startswith("train/") or quantity(sweep.evidence, metric).lower_is_better
        figure.update_layout(updatemenus=style.axis_buttons(kinds, at_top=at_top))
    return finish(figure, hovermode="x unified")


def _doublings(points: Sequence[float]) -> bool:
    """Whether ascending points grow by about the same factor; the last may end the budget early."""
    ratios = [after / before for before, after in pairwise(points)][:-1]
    if len(ratios) < 2:
        return False
    middle = float(np.median(ratios))
    return middle >= 1.5 and all(abs(ratio / middle - 1) <= 0.1 for ratio in ratios)


def _seed_lines(figure: go.Figure, rows: pd.DataFrame, colour: str, done: set[str]) -> None:
    for (cell, _, key), line in rows.groupby(["cell", "seed", "trial_key"], observed=True):
        finished = key in done
        figure.add_scatter(
            x=line["kimg"].to_numpy(),
            y=line["value"].to_numpy(),
            mode="lines" if finished else "lines+markers",
            line={"color": colour, "width": 1, "dash": "solid" if finished else "dot"},
            marker={"symbol": "x-thin", "size": [0] * (len(line) - 1) + [11]}
            | {"line": {"color": colour, "width": 2}},
            opacity=0.4 if finished else 1,
            legendgroup=str(cell),
            showlegend=False,
            hoverinfo="skip",
        )


def _mean_with_band(
    figure: go.Figure, rows: pd.DataFrame, cell: str, colour: str, *, ratio: bool
) -> None:
    samples = [
        (float(group["kimg"].iloc[0]), group["value"].to_numpy(dtype=np.float64))
        for _, group in rows.groupby("images")
    ]
    if not samples:
        return
    kimg = [at for at, _ in samples]
    mean = [float(values.mean()) for _, values in samples]
    bands = [mean_interval(values, ratio=ratio) for _, values in samples]
    low = [m if band.low is None else band.low for m, band in zip(mean, bands, strict=True)]
    high = [m if band.high is None else band.high for m, band in zip(mean, bands, strict=True)]
    figure.add_scatter(
        x=[*kimg, *kimg[::-1]],
        y=[*high, *low[::-1]],
        mode="lines",
        fill="toself",
        fillcolor=faded(colour, 0.18),
        line={"width": 0},
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
        text=[f"{number(m)}: {band_text(band)}" for m, band in zip(mean, bands, strict=True)],
        hovertemplate="%{text}",
    )


def training_loss(sweep: Sweep, metric: str = "train/loss") -> go.Figure:
    """Training loss per trial, averaged over short windows; never comparable across cells."""
    figure = go.Figure()
    rows = sweep.curve(metric)
    for cell, colour in colours(sweep.cells).items():
        own = rows[(rows["cell"] == cell) & np.isfinite(rows["value"])]
        for place, (_, line) in enumerate(own.groupby("seed")):
            window = max(1, len(line) // _POINTS_PER_LOSS_CURVE)
            short = line[["kimg", "value"]].groupby(np.arange(len(line)) // window).mean()
            figure.add_scatter(
                x=short["kimg"].to_numpy(),
                y=short["value"].to_numpy(),
                name=cell,
                legendgroup=cell,
                showlegend=place == 0,
                mode="lines",
                line={"color": colour, "width": 1},
                opacity=0.8,
                hovertemplate="%{y:.3g}",
            )
    figure.update_xaxes(title_text="thousand training images (kimg)", rangemode="tozero")
    figure.update_yaxes(title_text="training loss (not comparable across cells)")
    values = [value for trace in figure.data for value in trace.y]
    if values and min(values) > 0:
        figure.update_yaxes(type="log", **round_ticks(values))
    return finish(figure, height=340, hovermode="closest")
