"""Where in the noise is the loss, and where did it fall? Heat maps of kimg and log-SNR, one for each cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboards.charts.style import finish, heading, round_ticks, titled
from dashboards.levels import Levels

AMOUNT = [
    [0.0, "#12305c"],
    [0.25, "#46557a"],
    [0.5, "#7d7c78"],
    [0.75, "#b9a769"],
    [1.0, "#ffe945"],
]
"""Little to much: lightness rises all the way, from blue to yellow, which hardly any eye confuses."""
AGAINST = [
    [0.0, "#0b63a5"],
    [0.25, "#6fa8d6"],
    [0.5, "#dcdcdc"],
    [0.75, "#e79a5b"],
    [1.0, "#b34a00"],
]
"""Less than the baseline, as much, more: blue, grey, orange."""
_DECADES = 3.0
"""What colours reach below the largest value: less is as good as nothing."""
_WIDEST, _NARROWEST = 1.0, 0.05
"""Powers of two: a difference is drawn as at most twice and at least a scale of 4 % is drawn."""


def losses(cells: Mapping[str, Levels]) -> dict[str, go.Figure]:
    """Each cell's mean epsilon-MSE, one logarithmic scale of colours for all."""
    return _amounts({cell: found.mse for cell, found in cells.items()}, cells, "\u03b5-MSE")


def moments(cells: Mapping[str, Levels]) -> dict[str, go.Figure]:
    """Each cell's mean squared norm of the gradient of the loss that it minimizes, one scale for all."""
    looked = {cell: found.moment for cell, found in cells.items() if found.has_moment}
    return _amounts(looked, cells, "squared norm")


def differences(cells: Mapping[str, Levels], baseline: str) -> dict[str, go.Figure]:
    """Each cell's mean epsilon-MSE over that of the baseline in the same noise and part of training."""
    if baseline not in cells:
        return {}
    base = cells[baseline].mse
    ratios = {cell: _safe(found.mse / _safe(base)) for cell, found in cells.items()}
    ratios.pop(baseline)
    powers = {cell: np.log2(ratio) for cell, ratio in ratios.items()}
    known = [abs(values[np.isfinite(values)]) for values in powers.values()]
    every = np.concatenate(known) if known else np.zeros(0)
    if not every.size:
        return {}
    reach = float(np.clip(np.quantile(every, 0.98), _NARROWEST, _WIDEST))
    ends = {
        at: f"{2**at - 1:+.0%}".replace("%", " %").replace("-", "\N{MINUS SIGN}")
        for at in (-reach, reach)
    }
    if every.max() > reach:
        ends[-reach] = f"\N{LESS-THAN OR EQUAL TO} {ends[-reach]}"
        ends[reach] = f"\N{GREATER-THAN OR EQUAL TO} {ends[reach]}"
    ticks = {"tickvals": [-reach, 0.0, reach], "ticktext": [ends[-reach], "0", ends[reach]]}
    bar = {"colorscale": AGAINST, "zmin": -reach, "zmax": reach, "colorbar": ticks}
    hover = "%{customdata:+.1f} %"
    return {
        cell: _panel(cell, cells[cell], values, 100 * (ratios[cell] - 1.0), bar, hover)
        for cell, values in powers.items()
    }


def _amounts(
    values: Mapping[str, NDArray[np.float64]], cells: Mapping[str, Levels], called: str
) -> dict[str, go.Figure]:
    logs = {cell: np.log10(_safe(amounts)) for cell, amounts in values.items()}
    known = [one[np.isfinite(one)] for one in logs.values()]
    every = np.concatenate(known) if known else np.zeros(0)
    if not every.size:
        return {}
    high = float(every.max())
    low = max(float(every.min()), high - _DECADES)
    room = 0.1 * (high - low)
    between = [float(at) for at in range(-99, 99) if low + room < at < high - room]
    marks = [low, *between, high]
    texts = [f"{10**at:.2g}" for at in marks]
    if low > float(every.min()):
        texts[0] = f"\N{LESS-THAN OR EQUAL TO} {texts[0]}"
    ticks = {"tickvals": marks, "ticktext": texts}
    bar = {"colorscale": AMOUNT, "zmin": low, "zmax": high, "colorbar": ticks}
    hover = f"{called} %{{customdata:.3g}}"
    return {
        cell: _panel(cell, cells[cell], logs[cell], amounts, bar, hover)
        for cell, amounts in values.items()
    }


def _panel(
    cell: str,
    found: Levels,
    colour: NDArray[np.float64],
    shown: NDArray[np.float64],
    bar: Mapping[str, object],
    hover: str,
) -> go.Figure:
    """One cell; `shown` is the number that a pointer reads where `colour` is what is drawn."""
    edges = list(found.edges)
    grows = edges[-1] > 2 * len(edges) * edges[1]  # evaluations come at doublings, not evenly
    if grows:
        edges[0] = edges[1] / 2
    look = {"thickness": 9, "len": 1.0, "outlinewidth": 0, "xpad": 6, "tickfont": {"size": 11}}
    figure = go.Figure()
    figure.add_heatmap(
        x=edges,
        y=list(found.log_snr),
        z=colour.astype(np.float32),
        customdata=shown.astype(np.float32),
        hoverongaps=False,
        hovertemplate=f"{hover}<br>log-SNR %{{y}}, about %{{x:.3g}} kimg<extra></extra>",
        **{**bar, "colorbar": look | dict(bar["colorbar"])},  # type: ignore[call-overload]
    )
    x: dict[str, Any] = titled("kimg") | {"showgrid": False, "range": [edges[0], edges[-1]]}
    if grows:
        ends = [float(np.log10(edges[0])), float(np.log10(edges[-1]))]
        x |= {"type": "log", "range": ends, **round_ticks(edges)}
    return finish(
        figure,
        height=300,
        legend=False,
        hovermode="closest",
        x=x,
        y=titled("log-SNR") | {"showgrid": False},
        margin={"l": 48, "r": 8, "t": 36, "b": 44},
        **heading(cell),
    )


def _safe(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What has a logarithm; the rest is NaN."""
    return np.where(values > 0, values, np.nan)
