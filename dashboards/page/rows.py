"""Which rows do the page's tables have? Numbers as text, the same as in the verdict's sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from dashboards import text
from dashboards.charts.style import colours
from dashboards.html import typeset
from dashboards.sweep import Sweep
from dashboards.text import counted, number
from dashboards.verdict.comparable import finals
from dashboards.verdict.evidence import Row
from dashboards.verdict.row_wording import table_lines
from dashboards.verdict.spread_sentences import (
    deviation_text,
    mean_text,
    share_text,
    shares_text,
)
from dashboards.verdict.values import Measure, Verdicts
from dashboards.verdict.variance import Component, Spread
from dashboards.verdict.wording import ends_text, mean_and_spread, size
from trainer.report import Status

_MEASURES = {
    "area": "mean {metric} over training",
    "target": "kimg to {metric} {target}",
    "speed": "geometric mean of kimg to a range of {metric}",
}
_NAMES = {
    "sign-flip": "n = {n}",
    "t": "t, n = {n}",
    "anytime": "anytime, n = {n}",
    "constant": "n = {n}",
    "none": "",
}
"""What stands beside an interval: how it was made, where it is not inverted sign flips, and of how many pairs."""
_SHOWN = {Status.STOPPED: "not finished"}
"""Statuses that a reader of the page would take amiss: nobody need have stopped the trial."""


def row_colours(sweep: Sweep, verdicts: Verdicts | None) -> dict[str, str]:
    """The colour of every cell, and of its rows under further protocols: the same."""
    shade = colours(sweep.cells)
    rows = [row for c in (verdicts.rows if verdicts else ()) for row in (c.row, c.against)]
    return shade | {row.name: shade[row.cell] for row in rows}


def facts(sweep: Sweep, verdicts: Verdicts | None, created: datetime) -> list[str]:
    """The line under the headline: how much was trained, and when it was said."""
    parts = [f"{counted(len(sweep.cells), 'cell')}, {counted(len(sweep.seeds), 'seed')}"]
    if verdicts is not None and verdicts.kimg is not None:
        parts.append(f"{verdicts.kimg:g} kimg each")
    parts.append(f"{len(sweep.finished)} of {len(sweep.trials)} trials finished")
    seconds = float(sweep.device_seconds(sweep.trials, "seconds").sum())
    if seconds > 0:
        parts.append(text.hours(seconds / 3600, sweep.cost_unit))
    return [*parts, created.strftime("%-d %B %Y, %H:%M")]


def verdict_rows(sweep: Sweep, verdicts: Verdicts) -> list[dict[str, str]]:
    """One row per cell: the baseline, numbers as the verdict's sentence has them, those that are not compared.

    Then one per comparison under a further protocol.
    """
    metric, base = verdicts.metric, verdicts.baseline
    rows = [_final(sweep, Row(base, metric)) | {"instead": "baseline"}]
    for comparison in verdicts.comparisons:
        row = _final(sweep, Row(comparison.cell, metric))
        rows.append(row | _judged(comparison.word, base, comparison.final))
    for refusal in verdicts.refused:
        instead = "stopped" if refusal.cell in sweep.stopped else "not compared"
        rows.append(_final(sweep, Row(refusal.cell, metric)) | {"instead": instead})
    for line, compared in table_lines(verdicts):
        row = _final(sweep, line) | {"instead": "baseline"}
        if compared is not None:
            row |= _judged(compared.word, compared.against.name, compared.final)
        rows.append(row)
    return rows


def _judged(word: str, against: str, measure: Measure | None) -> dict[str, str]:
    return {"word": word, "against": against, **_effect(measure)}


def _final(sweep: Sweep, row: Row) -> dict[str, str]:
    values = list(finals(sweep.evidence, row.metric)[row.cell].values())
    mean, sd = mean_and_spread(values)
    said = {"cell": row.name, "final": mean if values else "none", "sd": sd}
    return {**said, "seeds": text.share(len(values), len(sweep.seeds)), "word": "", "against": ""}


def _effect(measure: Measure | None) -> dict[str, str]:
    if measure is None:
        return dict.fromkeys(("difference", "interval", "method", "p"), "")
    adjusted = measure.p_adjusted
    return {
        "difference": typeset(size(measure)),
        "interval": typeset(ends_text(measure)),
        "method": _NAMES[measure.interval.method].format(n=measure.interval.n),
        "p": "" if adjusted is None else text.bare_p(adjusted),
    }


def secondary_rows(verdicts: Verdicts) -> list[dict[str, str]]:
    """One row per cell and measure of the way there: areas, then times to the target, then speed-ups."""
    rows = []
    for comparison in verdicts.comparisons:
        for measure in comparison.measures()[1:]:
            metric, target = measure.title, number(measure.target)
            both = [measure.cell_values, measure.baseline_values]
            value, baseline = (number(float(np.mean(v))) if v else "none" for v in both)
            row = {
                "name": measure.name,
                "label": _MEASURES[measure.name].format(metric=metric, target=target),
                "cell": comparison.cell,
                "word": measure.word,
                "final": value,
                "baseline": baseline,
            }
            rows.append(row | _effect(measure))
    return sorted(rows, key=lambda row: list(_MEASURES).index(row["name"]))


def spread_rows(spreads: Sequence[Spread]) -> list[dict[str, Any]]:
    """One row per spread whose sources can be told apart: their deviations and shares, and what draws save."""
    rows = []
    for spread in spreads:
        if (parts := spread.parts) is None:
            continue
        sources = (parts.seed, parts.draw, parts.interaction)
        rows.append(
            {
                "cell": spread.cell,
                "baseline": spread.baseline or "",
                "mean": typeset(mean_text(spread)),
                "table": f"{parts.seeds} \N{MULTIPLICATION SIGN} {parts.draws}",
                "sources": [
                    {"sd": _deviation(spread, source), "share": share}
                    for source, share in zip(sources, shares_text(parts), strict=True)
                ],
                "cut": share_text(parts.cut),
            }
        )
    return rows


def _deviation(spread: Spread, source: Component) -> str:
    """A component as a standard deviation; `0*` where its estimate is below 0."""
    return "0*" if source.estimate < 0 else deviation_text(spread, source.sd)


def trial_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """One row per trial, in the order of the cells."""
    order = {cell: place for place, cell in enumerate(sweep.cells)}
    trials = sweep.trials.to_dict("records")
    return [
        {
            "cell": trial["cell"],
            "seed": trial["seed"],
            "status": shown(trial["status"]),
            "ended": trial["status"] != Status.FINISHED,
            "reason": _reason(trial),
            "kimg": f"{trial['kimg']:g}" if math.isfinite(trial["kimg"]) else "",
            "finals": [
                number(trial[name]) if math.isfinite(trial[name]) else ""
                for name in sweep.final_metrics
            ],
            "time": text.duration(trial["seconds"], tenths=True),
            "key": str(trial["trial_key"])[:10],
        }
        for trial in sorted(trials, key=lambda t: (order[t["cell"]], t["seed"]))
    ]


def shown(status: str) -> str:
    """A status in a reader's words."""
    return _SHOWN.get(Status(status), str(status))


def _reason(trial: dict[Any, Any]) -> str:
    """The reason without the status it repeats."""
    reason = trial["reason"]
    return reason.removeprefix(f"{trial['status']}: ") if isinstance(reason, str) else ""
