"""Which figures does a page have? Those for which there is data, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboards.charts import evidence as growth
from dashboards.charts.comparison import paired_differences, speed_up
from dashboards.charts.curves import convergence, training_loss
from dashboards.charts.further import row_differences
from dashboards.charts.passports import Passport, passports
from dashboards.html import script_json
from dashboards.sweep import Sweep
from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.values import Verdicts


def of_sweep(sweep: Sweep, verdicts: Verdicts | None) -> tuple[dict[str, Any], str]:
    """The figures for which there is data, and why the convergence chart lacks cells."""
    drawn: dict[str, Any] = {}
    refused = ""
    if len(sweep.curve(sweep.curve_metric)):
        try:
            drawn["convergence"] = convergence(sweep)
        except IncomparableError as error:
            refused = str(error)
            if verdicts is not None:
                compared = [verdicts.baseline, *(c.cell for c in verdicts.comparisons)]
                drawn["convergence"] = convergence(sweep, cells=compared)
    if verdicts is not None and any(c.lines is not None for c in verdicts.comparisons):
        drawn["speed_up"] = speed_up(sweep, verdicts)
    pairs = [len(c.final.seeds) for c in verdicts.comparisons if c.final] if verdicts else []
    if verdicts is not None and max(pairs, default=0) >= growth.FEWEST:
        drawn["evidence"] = growth.evidence(sweep, verdicts)
    if verdicts is not None and any(c.final is not None for c in verdicts.comparisons):
        drawn["paired_differences"] = paired_differences(sweep, verdicts)
    if verdicts is not None and any(row.final and row.final.seeds for row in verdicts.rows):
        drawn["row_differences"] = row_differences(sweep, verdicts)
    if len(sweep.curve("train/loss")):
        drawn["training_loss"] = training_loss(sweep)
    return drawn, refused


def of_passports(cards: Mapping[str, Passport]) -> dict[str, Any]:
    """Those of the cells' objective passports."""
    figures = passports(cards) if cards else {}
    return {f"passport_{name}": figure for name, figure in figures.items()}


def as_json(drawn: Mapping[str, Any]) -> dict[str, str]:
    """By name, as text for the page."""
    return {name: script_json(figure.to_json()) for name, figure in drawn.items()}
