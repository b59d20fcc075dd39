"""What does the sweep look like? The only door to plotly: one chart each, one colour per cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from dashboards import design
from dashboards.design import colours, faded, round_ticks
from dashboards.paired import bootstrap_interval
from dashboards.pairing import lower_is_better
from dashboards.runs import Sweep
from dashboards.verdict import Measure, Verdicts
from dashboards.wording import interval, number, percent, title

Passport = Mapping[str, Sequence[float]]
_POINTS_PER_LOSS_CURVE = 160
_RATIOS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20)


def plotly_javascript() -> str:
    """The plotly.js library, to be embedded once per page."""
    return str(get_plotlyjs())


def convergence(
    sweep: Sweep, metric: str | None = None, *, cells: Sequence[str] | None = None
) -> go.Figure:
    """Metric over kimg: mean per cell with a 95 % bootstrap band, one thin line per seed.

    Means are over finished trials only; the others are dotted up to where they ended. Only `cells`
    are drawn where given. The kimg axis is logarithmic when evaluations come at doublings. Raises
    `IncomparableError` when the drawn cells were measured under different protocols.
    """
    metric = sweep.curve_metric if metric is None else metric
    sweep.protocol(metric, cells)
    figure = go.Figure()
    done = set(sweep.trials.loc[sweep.trials["status"] == "finished", "trial_key"])
    rows = sweep.curve(metric)
    rows = rows[np.isfinite(rows["value"]) & rows["cell"].isin(cells or sweep.cells)]
    for cell, colour in colours(sweep.cells).items():
        own = rows[rows["cell"] == cell]
        _seed_lines(figure, own, colour, done)
        _mean_with_band(figure, own[own["trial_key"].isin(done)], cell, colour)
    figure.update_xaxes(title_text="thousand training images (kimg)", rangemode="tozero")
    kimg = sorted({float(k) for k in rows["kimg"] if k > 0})
    if _doublings(kimg):
        figure.update_xaxes(type="log", rangemode="normal", **round_ticks(kimg))
    figure.update_yaxes(title_text=title(metric))
    values = rows["value"].tolist()
    if values:
        kinds = design.axis_kinds(values)
        figure.update_yaxes(**round_ticks(values)).update_yaxes(**next(iter(kinds.values())))
        at_top = metric.startswith("train/") or lower_is_better(metric)
        figure.update_layout(updatemenus=design.axis_buttons(kinds, at_top=at_top))
    return _finish(figure, hovermode="x unified")


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


def _mean_with_band(figure: go.Figure, rows: pd.DataFrame, cell: str, colour: str) -> None:
    samples = [
        (float(group["kimg"].iloc[0]), group["value"].to_numpy(dtype=np.float64))
        for _, group in rows.groupby("images")
    ]
    if not samples:
        return
    kimg = [at for at, _ in samples]
    mean = [float(values.mean()) for _, values in samples]
    bands = [bootstrap_interval(values) for _, values in samples]
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
        text=[
            f"{number(m)} ({number(lo)} to {number(hi)}, {_seeds(len(values))})"
            for m, lo, hi, (_, values) in zip(mean, low, high, samples, strict=True)
        ],
        hovertemplate="%{text}",
    )


def _seeds(n: int) -> str:
    return f"{n} seed{'' if n == 1 else 's'}"


def speed_up(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Speed-up over all targets: geometric mean per cell, one thin line per seed."""
    figure = go.Figure()
    shade = colours(sweep.cells)
    for comparison in verdicts.comparisons:
        if comparison.speed is None:
            continue
        cell, colour = comparison.cell, shade[comparison.cell]
        for line in comparison.speed.per_seed:
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
        if comparison.speed.mean is not None:
            figure.add_scatter(
                x=comparison.speed.mean.targets,
                y=comparison.speed.mean.ratios,
                name=cell,
                legendgroup=cell,
                mode="lines",
                line={"color": colour, "width": 2.5},
                hovertemplate="%{y:.2f}x",
            )
    figure.add_hline(y=1, line={"color": design.INK, "width": 1.5, "dash": "dash"})
    targets = [t for trace in figure.data for t in trace.x]
    ratios = [r for trace in figure.data for r in trace.y] or [1.0]
    figure.update_xaxes(title_text=f"target {title(verdicts.curve_metric)}: easy to hard")
    if targets and min(targets) > 0:
        figure.update_xaxes(type="log", **round_ticks(targets))
    if lower_is_better(verdicts.curve_metric):
        figure.update_xaxes(autorange="reversed")
    low, high = min(0.8, 0.95 * min(ratios)), max(1.25, 1.05 * max(ratios))
    steps = [s for s in _RATIOS if low <= s <= high]
    figure.update_yaxes(title_text=f"times as fast as {verdicts.baseline}", type="log")
    figure.update_yaxes(range=[float(np.log10(low)), float(np.log10(high))])
    figure.update_yaxes(tickvals=steps, ticktext=[f"{s:g}\u00d7" for s in steps])
    return _finish(figure, hovermode="x unified")


def paired_differences(sweep: Sweep, verdicts: Verdicts) -> go.Figure:
    """Relative paired differences: a dot per seed, mean with CI, zero line, margin band."""
    panels = {
        "final": f"final {title(verdicts.metric)}",
        "area": f"mean {title(verdicts.curve_metric)}",
        "target": "kimg to target",
    }
    found = {
        name: [m for c in verdicts.comparisons for m in c.measures() if m.name == name]
        for name in panels
    }
    shown = [name for name in panels if found[name]]
    figure = make_subplots(
        cols=max(1, len(shown)),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[panels[name] for name in shown],
    )
    shade, margin = colours(sweep.cells), 100 * verdicts.margin
    cells = [c.cell for c in verdicts.comparisons]
    reach = [margin, -margin]
    for column, name in enumerate(shown, start=1):
        for measure in found[name]:
            row = len(cells) - 1 - cells.index(measure.cell)
            reach += _differences(figure, measure, row, shade[measure.cell], column)
        band = {"fillcolor": design.INK, "opacity": 0.15, "line_width": 0, "layer": "below"}
        figure.add_vrect(-margin, margin, row=1, col=column, **band)
        figure.add_vline(
            0, row=1, col=column, line={"color": design.INK, "width": 1.2}, layer="below"
        )
    room = 0.06 * (max(reach) - min(reach))
    figure.update_xaxes(range=[min(reach) - room, max(reach) + room], ticksuffix=" %", nticks=6)
    figure.update_xaxes(title_text=f"difference to {verdicts.baseline}")
    figure.update_yaxes(range=[-0.6, len(cells) - 0.4], showgrid=False, automargin=True)
    figure.update_yaxes(tickvals=list(range(len(cells))), ticktext=cells[::-1])
    figure.update_annotations(font={"size": 13})
    return _finish(figure, height=150 + 80 * len(cells), legend=False, hovermode="closest")


def _differences(
    figure: go.Figure, found: Measure, row: int, colour: str, column: int
) -> list[float]:
    """Draw one cell's differences in percent and return the values that have to be visible."""
    if found.scale is None or found.relative is None:
        return []
    percents = [100 * d / found.scale for d in found.differences]
    mean = 100 * found.relative
    low, high = (
        mean if end is None else 100 * end / found.scale
        for end in (found.interval.low, found.interval.high)
    )
    figure.add_scatter(
        x=percents,
        y=[row - 0.22] * len(percents),
        mode="markers",
        marker={"color": colour, "size": 8, "opacity": 0.6},
        text=[f"seed {seed}" for seed in found.seeds],
        hovertemplate="%{text}: %{x:.2f} %<extra></extra>",
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
        text=[f"mean {percent(found.relative)} ({interval(found.interval, found.scale)})"],
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=column,
    )
    return [*percents, low, high]


def passports(curves: Mapping[str, Passport]) -> dict[str, go.Figure]:
    """What each cell trains on: charts `density`, `product` (effective weight) and `schedule`.

    `curves` is {cell: {log_snr, density, weight, product, t, schedule}}. The product is drawn with
    area 1: a constant factor of the loss changes no objective. Lines that coincide stay visible
    through their dashes.
    """
    axes = {
        "density": ("log-SNR", "training density", "log_snr", "density"),
        "product": (
            "log-SNR",
            "effective weight (area 1)",
            "log_snr",
            "product",
        ),
        "schedule": ("time t (0 is data, 1 is noise)", "schedule: log-SNR over t", "t", "schedule"),
    }
    shade = colours(list(curves))
    figures = {}
    for name, (x_title, y_title, x, y) in axes.items():
        figure = go.Figure()
        for place, (cell, curve) in enumerate(curves.items()):
            xs, ys = np.asarray(curve[x], dtype=float), np.asarray(curve[y], dtype=float)
            if name == "product":
                area = abs(float(np.trapezoid(ys, xs)))
                ys = ys / area if area > 0 else ys
            width = max(2.0, 5.0 - 1.5 * place)
            line = {
                "color": shade[cell],
                "width": width,
                "dash": design.DASHES[place % len(design.DASHES)],
            }
            figure.add_scatter(
                x=xs, y=ys, name=cell, mode="lines", line=line, hovertemplate="%{y:.3g}"
            )
        figure.update_xaxes(title_text=x_title)
        figure.update_yaxes(title_text="")
        figure.update_layout(title={"text": y_title, "font": {"size": 14}, "x": 0, "xref": "paper"})
        figures[name] = _finish(figure, height=300, legend=False, hovermode="x unified")
    return figures


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
    return _finish(figure, height=340, hovermode="closest")


def _finish(
    figure: go.Figure, *, hovermode: str, height: int = 420, legend: bool = True
) -> go.Figure:
    figure.update_layout(**design.layout(hovermode=hovermode, height=height, legend=legend))
    return figure.update_xaxes(**design.axis(), ticks="outside").update_yaxes(**design.axis())
