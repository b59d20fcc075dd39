"""What does each cell train on? Density, effective weight and schedule of its objective passport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboards.charts import style
from dashboards.charts.style import colours, finish, heading, titled

Passport = Mapping[str, Sequence[float]]
NAMES = ("density", "product", "schedule")
"""Those of the charts."""


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
                "dash": style.DASHES[place % len(style.DASHES)],
            }
            figure.add_scatter(
                x=xs, y=ys, name=cell, mode="lines", line=line, hovertemplate="%{y:.3g}"
            )
        figures[name] = finish(
            figure,
            height=300,
            legend=False,
            hovermode="x unified",
            x=titled(x_title),
            y=titled(""),
            **heading(y_title),
        )
    return figures
