"""How is a sweep shown to somebody else? One HTML page that needs no network and no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboards import page_rows, page_tuning, text
from dashboards.charts import evidence as growth
from dashboards.charts.comparison import paired_differences, speed_up
from dashboards.charts.curves import convergence, training_loss
from dashboards.charts.further import row_colours, row_differences
from dashboards.charts.passports import Passport, passports
from dashboards.charts.style import colours
from dashboards.html import environment_of, script_json
from dashboards.metrics import heading, title
from dashboards.protocol import explanations
from dashboards.sweep import Sweep
from dashboards.verdict.comparable import IncomparableError, quantity
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
    created: datetime | None = None,
) -> str:
    """The report as one self-contained HTML text.

    `verdicts` is None when nothing could be judged; `refusal` then says why. `cards` are the cells'
    objective passports. `command` reproduces the sweep.
    """
    drawn, refused = _charts(sweep, verdicts)
    cards = cards or {}
    objectives, searched = _passport_charts(cards), page_tuning.figures(sweep)
    begin = headline(verdicts) if verdicts is not None else (refusal or "Nothing to judge yet.")
    return (
        environment_of(row_colours(sweep, verdicts))
        .get_template("report.html")
        .render(
            sweep=sweep,
            headline=begin,
            facts=page_rows.facts(sweep, verdicts, created or datetime.now().astimezone()),
            **_judged(sweep, verdicts),
            **_spread(sweep, verdicts),
            refusal=None if verdicts is not None or refusal == begin else refusal,
            curve_title=title(sweep.curve_metric, sweep.space),
            curve_protocol=_curve_protocol(sweep, verdicts) if "convergence" in drawn else None,
            findings=findings,
            passport_cells=list(cards),
            passport_charts=list(objectives),
            samples=page_rows.sample_rows(sweep),
            sample_seeds=sorted({seed for _, seed in sweep.samples}),
            trials=page_rows.trial_rows(sweep),
            final_metrics=sweep.final_metrics,
            protocols=explanations(sweep),
            command=command,
            versions=dict(versions or {}),
            refused=refused,
            hint=hint,
            charts=_as_json(drawn | objectives | searched),
            **page_tuning.context(sweep, list(searched)),
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
        "verdict_rows": page_rows.verdict_rows(sweep, verdicts) if verdicts else [],
        "sentences": [final_sentence(comparison) for comparison in comparisons],
        "row_sentences": [row_sentence(row) for row in verdicts.rows] if verdicts else [],
        "unlike": unlike_sentences(verdicts) if verdicts else [],
        "not_compared": verdicts.refused if verdicts else (),
        "secondary": page_rows.secondary_rows(verdicts) if verdicts else [],
        "speed_sentences": [line for c in comparisons if (line := speed_sentence(c))],
    }


def _spread(sweep: Sweep, verdicts: Verdicts | None) -> dict[str, Any]:
    """What the template says of where the spread comes from."""
    if verdicts is None:
        return {"spread_rows": [], "spread_sentences": [], "spread_ratio": False, "sampled": []}
    cells = [comparison.cell for comparison in verdicts.comparisons]
    further = [(row.row, row.against) for row in verdicts.rows]
    found = spreads(sweep.evidence, verdicts.metric, verdicts.baseline, cells, further)
    rows = page_rows.spread_rows(found)
    compared = [spread for spread in found if spread.baseline and not spread.protocol]
    said = [spread_sentence(spread) for spread in compared] if rows else [condition(found)]
    return {
        "spread_rows": rows,
        "spread_sentences": list(filter(None, said)),
        "spread_ratio": any(spread.ratio for spread in found),
        "sampled": sampling_sentences(found),
    }


def render_passports(
    cards: Mapping[str, Mapping[str, Any]],
    distances: Mapping[str, Sequence[float]],
    findings: Sequence[str] = (),
) -> str:
    """Objective passports as one self-contained HTML text.

    `cards` is {cell: trainer.diffusion.passport.Passport.to_dict()}; `distances` has for every cell
    its total-variation distance to each cell, in the same order.
    """
    drawn = _passport_charts(cards)
    rows = [
        {
            "cell": cell,
            "initial": f"{card['initial_snr']:.3g}",
            "terminal": f"{card['terminal_snr']:.3g}",
            "sample_size": f"{card['effective_sample_size']:.0%}",
            "distances": [f"{value:.3f}" for value in distances[cell]],
        }
        for cell, card in cards.items()
    ]
    template = environment_of(colours(list(cards))).get_template("passports.html")
    return template.render(
        cells=list(cards),
        rows=rows,
        findings=findings,
        chart_names=list(drawn),
        charts=_as_json(drawn),
    )


def _passport_charts(cards: Mapping[str, Passport]) -> dict[str, Any]:
    figures = passports(cards) if cards else {}
    return {f"passport_{name}": figure for name, figure in figures.items()}


def _as_json(drawn: Mapping[str, Any]) -> dict[str, str]:
    return {name: script_json(figure.to_json()) for name, figure in drawn.items()}


def _charts(sweep: Sweep, verdicts: Verdicts | None) -> tuple[dict[str, Any], str]:
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


def _curve_protocol(sweep: Sweep, verdicts: Verdicts | None) -> str | None:
    return verdicts.protocol_curve if verdicts else sweep.protocol(sweep.curve_metric)
