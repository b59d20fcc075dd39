"""What can the way be measured in? Images, device time, wall-clock time and FLOPs, as far as the records tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dashboards.charts.style import TITLE, round_ticks
from dashboards.sweep import Sweep

_LIMITS = ((600.0, "second", 1.0), (3 * 3600.0, "minute", 60.0), (float("inf"), "hour", 3600.0))
"""Below so many seconds, in what, of how many seconds."""
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


@dataclass(frozen=True)
class Effort:
    """One way to measure how far a training is: a column of `with_efforts`, in `unit`."""

    name: str
    label: str
    """What its button says."""
    title: str
    """What stands at the axis."""
    unit: str
    """Behind a number."""
    per: float = 1.0
    """The column's numbers are divided by it."""

    def values(self, rows: pd.DataFrame) -> np.ndarray:
        """Of each row, in `unit`."""
        return rows[self.name].to_numpy(dtype=np.float64) / self.per

    def axis(self, values: np.ndarray, *, log: bool) -> dict[str, Any]:
        """Settings of the x axis."""
        settings: dict[str, Any] = {"title": TITLE | {"text": self.title}, "type": "linear"}
        settings |= {"tickmode": "auto", "rangemode": "tozero"}
        positive = values[np.isfinite(values) & (values > 0)]
        if log and len(positive):
            settings |= {"type": "log", "rangemode": "normal", "tickmode": "array"}
            settings |= round_ticks(positive.tolist())
        return settings | {"unifiedhovertitle": {"text": f"%{{x:.4~g}} {self.unit}"}}


def with_efforts(sweep: Sweep, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Effort]]:
    """Rows of a curve with a column for each way to measure the effort, and the ways that all rows know."""
    clock = sweep.clock.drop(columns="trial_key")
    rows = rows.merge(clock, on=["cell", "seed", "images"], how="left")
    rows["device"] = sweep.device_seconds(rows, "train_s")
    rows["wall"] = rows["train_s"] + rows["eval_s"]
    rows["flops"] = rows["images"] * rows["cell"].map(sweep.flops).astype("float64")
    ways = [Effort("kimg", "kimg", "thousand training images (kimg)", "kimg")]
    if _all_know(rows, "device"):
        word, per = _time(rows["device"].max())
        unit = f"{sweep.cost_unit}-{word}s"
        ways.append(Effort("device", unit, f"{unit} of training, without pauses", unit, per))
        word, per = _time(rows["wall"].max())
        title = f"{word}s of training and evaluation, without pauses"
        ways.append(Effort("wall", "wall-clock", title, f"{word}s", per))
    if _all_know(rows, "flops"):
        per, prefix = _prefix(rows["flops"].max())
        title = f"{prefix}FLOPs of the network's forward and backward passes"
        ways.append(Effort("flops", "FLOPs", title, f"{prefix}FLOPs", per))
    return rows, ways


def meta_of(
    ways: list[Effort], points: Mapping[str, np.ndarray], *, log: bool
) -> list[dict[str, Any]]:
    """What the page's switch of the x axis has to know of each way; `points` are all values by name."""
    return [
        {
            "name": way.name,
            "label": way.label,
            "unit": way.unit,
            "axis": way.axis(points[way.name], log=log),
        }
        for way in ways
    ]


def _all_know(rows: pd.DataFrame, column: str) -> bool:
    return len(rows) > 0 and bool(np.isfinite(rows[column]).all())


def _time(most: float) -> tuple[str, float]:
    return next((word, per) for limit, word, per in _LIMITS if most < limit)


def _prefix(most: float) -> tuple[float, str]:
    return next(((per, word) for per, word in _PREFIXES if most >= per), (1.0, ""))
