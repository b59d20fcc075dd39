"""What does somebody see first? A sentence, a line for each cell, and how sure its word is."""

from __future__ import annotations

from typing import Any

from dashboards.charts.forest import Forest, forest
from dashboards.sweep import Sweep
from dashboards.verdict.certainty import how_sure, sentence
from dashboards.verdict.row_wording import rows_headline
from dashboards.verdict.values import Measure, Name, Verdicts
from dashboards.verdict.wording import margin_text


def context(sweep: Sweep, verdicts: Verdicts | None, refusal: str) -> dict[str, Any]:
    """What the template of the first screen says; `refusal` in place of a verdict."""
    if verdicts is None:
        return {"sentence": refusal, "first": None, "first_rows": [], "panels": [], "further": None}
    finals = [c.final for c in verdicts.comparisons if c.final is not None]
    title = f"difference in final {verdicts.quantity.title} to {verdicts.baseline}"
    drawn = forest(finals, title)
    strips = {strip.cell: strip for strip in drawn.strips} if drawn else {}
    rows = [
        {
            "cell": comparison.cell,
            "word": comparison.word,
            "strip": strips.get(comparison.cell),
            "sure": how_sure(comparison),
        }
        for comparison in verdicts.comparisons
    ]
    for refusal_ in verdicts.refused:
        why = f"{'stopped' if refusal_.cell in sweep.stopped else 'not compared'}: {refusal_.why}"
        rows.append({"cell": refusal_.cell, "word": "", "strip": None, "sure": why})
    also = rows_headline(verdicts)
    return {
        "sentence": sentence(verdicts) + (f" {also}." if also else ""),
        "first": drawn,
        "first_rows": rows,
        "panels": _panels(verdicts),
        "further": _further(verdicts),
    }


def _panels(verdicts: Verdicts) -> list[Forest]:
    """Differences in each measure, as far as it has pairs."""
    curve, budget = verdicts.curve_quantity.title, margin_text(verdicts)
    titles: dict[Name, str] = {
        "final": f"final {verdicts.quantity.title}, margin {budget}",
        "area": f"mean {curve} over training",
        "target": "kimg to the target",
        "speed": "speed, over all targets",
    }
    every = [m for comparison in verdicts.comparisons for m in comparison.measures()]
    panels = [forest([m for m in every if m.name == name], titles[name]) for name in titles]
    return [panel for panel in panels if panel is not None]


def _further(verdicts: Verdicts) -> Forest | None:
    """Differences under further protocols."""
    drawn: list[tuple[Measure, str]] = [
        (row.final, f"{row.row.name} \N{MINUS SIGN} {row.against.name}")
        for row in verdicts.rows
        if row.final is not None
    ]
    title = f"difference in {verdicts.quantity.title}"
    return forest([measure for measure, _ in drawn], title, [name for _, name in drawn])
