"""What does the report say, from the verdict down to the versions?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboards import text
from dashboards.charts.passports import Passport
from dashboards.claims import claims
from dashboards.html import environment_of, script_json
from dashboards.links import Links
from dashboards.metrics import heading, title
from dashboards.page import downloads, figures, first, levels, rows, samples, tuning
from dashboards.protocol import explanations
from dashboards.sweep import Sweep
from dashboards.verdict.comparable import quantity
from dashboards.verdict.outlook import looks
from dashboards.verdict.row_wording import unlike_sentences
from dashboards.verdict.sentences import (
    final_sentence,
    headline,
    row_sentence,
    speed_sentence,
)
from dashboards.verdict.spread_sentences import condition, sampling_sentences, spread_sentence
from dashboards.verdict.values import Verdicts
from dashboards.verdict.variance import spreads
from dashboards.verdict.wording import margin_text

NO_LINKS = Links()


def render(
    sweep: Sweep,
    verdicts: Verdicts | None,
    cards: Mapping[str, Passport] | None = None,
    findings: Sequence[str] = (),
    *,
    command: str = "",
    versions: Mapping[str, str] | None = None,
    refusal: str | None = None,
    hint: str = "",
    costs: str = "",
    links: Links = NO_LINKS,
    created: datetime | None = None,
) -> str:
    """The report as one self-contained HTML text.

    `verdicts` is None when nothing could be judged; `refusal` then says why. `cards` are the cells'
    objective passports. `command` reproduces the sweep; `costs` says what it took. `links` lead to its runs in MLflow.
    """
    drawn, refused = figures.of_sweep(sweep, verdicts)
    cards = cards or {}
    objectives, searched = figures.of_passports(cards), tuning.figures(sweep)
    by_level, pictures = levels.figures(sweep), samples.shown(sweep)
    made = created or datetime.now().astimezone()
    version = (versions or {}).get("diffsweep", "")
    said = claims(sweep, verdicts, refusal=refusal, version=version, created=made)
    begin = headline(verdicts) if verdicts is not None else (refusal or "Nothing to judge yet.")
    return (
        environment_of(rows.row_colours(sweep, verdicts))
        .get_template("report.html")
        .render(
            sweep=sweep,
            headline=begin,
            **first.context(sweep, verdicts, begin),
            facts=rows.facts(sweep, verdicts, made),
            **_judged(sweep, verdicts),
            **_spread(sweep, verdicts),
            refusal=None if verdicts is not None or refusal == begin else refusal,
            curve_title=title(sweep.curve_metric, sweep.space),
            curve_protocol=_curve_protocol(sweep, verdicts) if "convergence" in drawn else None,
            findings=findings,
            passport_cells=list(cards),
            passport_charts=list(objectives),
            samples=pictures,
            samples_data=script_json(
                json.dumps({"kimg": pictures.kimg, "earlier": pictures.earlier})
            ),
            trials=rows.trial_rows(sweep),
            links=links,
            final_metrics=sweep.final_metrics,
            protocols=explanations(sweep),
            command=command,
            costs=costs,
            versions=dict(versions or {}),
            refused=refused,
            hint=hint,
            charts=figures.carried(drawn | objectives | searched | by_level),
            verdict_data=script_json(json.dumps(said, indent=1)),
            **downloads.context(sweep, verdicts),
            **levels.context(sweep, by_level),
            **tuning.context(sweep, list(searched)),
        )
    )


def _judged(sweep: Sweep, verdicts: Verdicts | None) -> dict[str, Any]:
    """What the template says of the verdict: numbers, sentences and words, empty without one."""
    comparisons = verdicts.comparisons if verdicts else ()
    return {
        "verdicts": verdicts,
        "lower": quantity(sweep.evidence, sweep.metric).lower_is_better,
        "metric_title": title(sweep.metric, sweep.space),
        "metric_heading": heading(sweep.metric, sweep.space),
        "margin": margin_text(verdicts) if verdicts else text.percent(sweep.margin, signed=False),
        "looks": looks(verdicts.guarantee) if verdicts else "",
        "verdict_rows": rows.verdict_rows(sweep, verdicts) if verdicts else [],
        "sentences": [final_sentence(comparison) for comparison in comparisons],
        "row_sentences": [row_sentence(row) for row in verdicts.rows] if verdicts else [],
        "unlike": unlike_sentences(verdicts) if verdicts else [],
        "not_compared": verdicts.refused if verdicts else (),
        "secondary": rows.secondary_rows(verdicts) if verdicts else [],
        "speed_sentences": [line for c in comparisons if (line := speed_sentence(c))],
    }


def _spread(sweep: Sweep, verdicts: Verdicts | None) -> dict[str, Any]:
    """What the template says of where the spread comes from."""
    if verdicts is None:
        return {"spread_rows": [], "spread_sentences": [], "spread_ratio": False, "sampled": []}
    cells = [comparison.cell for comparison in verdicts.comparisons]
    further = [(row.row, row.against) for row in verdicts.rows]
    found = spreads(sweep.evidence, verdicts.metric, verdicts.baseline, cells, further)
    table = rows.spread_rows(found)
    compared = [spread for spread in found if spread.baseline and not spread.protocol]
    said = [spread_sentence(spread) for spread in compared] if table else [condition(found)]
    return {
        "spread_rows": table,
        "spread_sentences": list(filter(None, said)),
        "spread_ratio": any(spread.ratio for spread in found),
        "sampled": sampling_sentences(found),
    }


def _curve_protocol(sweep: Sweep, verdicts: Verdicts | None) -> str | None:
    return verdicts.protocol_curve if verdicts else sweep.protocol(sweep.curve_metric)
