"""How is a sweep shown to somebody else? One HTML page that needs no network and no files."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dashboards import figures, wording
from dashboards.design import colours
from dashboards.pairing import lower_is_better
from dashboards.protocol import explanations
from dashboards.runs import IncomparableError, Sweep
from dashboards.verdict import Measure, Verdicts

_MEASURES = {"area": "mean {metric} over training", "target": "kimg to {metric} {target}"}


def render(
    sweep: Sweep,
    verdicts: Verdicts | None,
    passports: Mapping[str, figures.Passport] | None = None,
    findings: Sequence[str] = (),
    *,
    command: str = "",
    versions: Mapping[str, str] | None = None,
    protocols: Mapping[str, str] | None = None,
    refusal: str | None = None,
    created: datetime | None = None,
) -> str:
    """The report as one self-contained HTML text.

    `verdicts` is None when nothing could be judged; `refusal` then says why. `protocols` explains
    protocol ids in words; what it lacks is read from the specs. `command` reproduces the sweep.
    """
    charts, refused = _charts(sweep, verdicts)
    drawn = figures.passports(passports) if passports else {}
    charts |= {f"passport_{name}": figure for name, figure in drawn.items()}
    shade = colours(sweep.cells)
    environment = _environment(shade)
    headline = verdicts.sentence() if verdicts is not None else (refusal or "Nothing to judge yet.")
    return environment.get_template("report.html").render(
        sweep=sweep,
        verdicts=verdicts,
        refusal=None if verdicts is not None or refusal == headline else refusal,
        headline=headline,
        facts=_facts(sweep, verdicts, created or datetime.now().astimezone()),
        lower=lower_is_better(sweep.metric),
        metric_title=wording.title(sweep.metric),
        curve_title=wording.title(sweep.curve_metric),
        curve_protocol=_curve_protocol(sweep, verdicts) if "convergence" in charts else None,
        margin=wording.percent(verdicts.margin if verdicts else sweep.margin, signed=False),
        verdict_rows=_verdict_rows(sweep, verdicts) if verdicts else [],
        sentences=[wording.judgement(c) for c in verdicts.comparisons] if verdicts else [],
        not_compared=verdicts.refused if verdicts else (),
        secondary=_secondary(verdicts) if verdicts else [],
        speed_sentences=[s for c in verdicts.comparisons if (s := wording.speed(c.speed, c))]
        if verdicts
        else [],
        findings=findings,
        passport_cells=list(passports or {}),
        passport_charts=[f"passport_{name}" for name in drawn],
        samples=_samples(sweep),
        sample_seeds=sorted({seed for _, seed in sweep.samples}),
        trials=_trials(sweep),
        final_metrics=sweep.final_metrics,
        protocols=_protocols(sweep, protocols or {}),
        command=command,
        versions=dict(versions or {}),
        refused=refused,
        charts={name: _script_json(figure.to_json()) for name, figure in charts.items()},
    )


def render_passports(
    passports: Mapping[str, Mapping[str, Any]],
    distances: Mapping[str, Sequence[float]],
    findings: Sequence[str] = (),
) -> str:
    """Objective passports as one self-contained HTML text.

    `passports` is {cell: trainer.diffusion.passport.Passport.to_dict()}; `distances` has for every cell
    its total-variation distance to each cell, in the same order.
    """
    drawn = figures.passports(passports)
    environment = _environment(colours(list(passports)))
    rows = [
        {
            "cell": cell,
            "initial": f"{card['initial_snr']:.3g}",
            "terminal": f"{card['terminal_snr']:.3g}",
            "sample_size": f"{card['effective_sample_size']:.0%}",
            "distances": [f"{value:.3f}" for value in distances[cell]],
        }
        for cell, card in passports.items()
    ]
    return environment.get_template("passports.html").render(
        cells=list(passports),
        rows=rows,
        findings=findings,
        chart_names=[f"passport_{name}" for name in drawn],
        charts={f"passport_{name}": _script_json(f.to_json()) for name, f in drawn.items()},
    )


def _environment(shade: Mapping[str, str]) -> Environment:
    environment = Environment(
        loader=PackageLoader("dashboards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def chip(cell: str) -> Markup:
        colour = shade.get(cell, "currentColor")
        return Markup('<span class="chip" style="--cell:{}">{}</span>').format(colour, cell)

    def prose(text: str) -> Markup:
        """Backticks become cell chips or code; verdict words stand out."""
        parts = []
        for place, part in enumerate(text.split("`")):
            if place % 2:
                parts.append(
                    chip(part) if part in shade else Markup("<code>{}</code>").format(part)
                )
            else:
                parts.append(_typeset(part))
        return Markup("").join(parts)

    environment.filters |= {"chip": chip, "prose": prose}
    environment.globals |= {
        "chart": lambda name: Markup('<div class="chart" data-figure="{}"></div>').format(name),
        "plotly": Markup(figures.plotly_javascript()),
        "css": Markup(_asset(environment, "report.css")),
        "js": Markup(_asset(environment, "report.js")),
    }
    return environment


def _typeset(text: str) -> Markup:
    """Minus signs, no line break before a unit, verdict words set apart."""
    safe = re.sub(r"(?<![\w-])-(?=\d)", "\u2212", str(escape(text)))
    safe = re.sub(
        r"(?<=\d) (?=%|kimg\b)|(?<=%) (?=CI\b)|(?<=p) (?=[=&<])|(?<==|;) (?=\d)", "\u00a0", safe
    )
    safe = re.sub(r"(?<=\d)x\b", "\u00d7", safe)
    for word in ("BETTER", "WORSE", "SAME", "INCONCLUSIVE"):
        safe = safe.replace(word, f'<span class="word {word.lower()}">{word}</span>')
    return Markup(safe)


def _asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _script_json(text: str | None) -> Markup:
    """JSON that cannot end its script element."""
    return Markup((text or "null").replace("<", "\\u003c"))


def _charts(sweep: Sweep, verdicts: Verdicts | None) -> tuple[dict[str, Any], str]:
    """The figures for which there is data, and why the convergence chart lacks cells."""
    charts: dict[str, Any] = {}
    refused = ""
    if len(sweep.curve(sweep.curve_metric)):
        try:
            charts["convergence"] = figures.convergence(sweep)
        except IncomparableError as error:
            refused = str(error)
            if verdicts is not None:
                compared = [verdicts.baseline, *(c.cell for c in verdicts.comparisons)]
                charts["convergence"] = figures.convergence(sweep, cells=compared)
    if verdicts is not None and any(c.speed is not None for c in verdicts.comparisons):
        charts["speed_up"] = figures.speed_up(sweep, verdicts)
    if verdicts is not None and any(c.final is not None for c in verdicts.comparisons):
        charts["paired_differences"] = figures.paired_differences(sweep, verdicts)
    if len(sweep.curve("train/loss")):
        charts["training_loss"] = figures.training_loss(sweep)
    return charts, refused


def _curve_protocol(sweep: Sweep, verdicts: Verdicts | None) -> str | None:
    return verdicts.protocol_curve if verdicts else sweep.protocol(sweep.curve_metric)


def _facts(sweep: Sweep, verdicts: Verdicts | None, created: datetime) -> list[str]:
    """The line under the headline: how much was trained, and when it was said."""
    cells, seeds = len(sweep.cells), len(sweep.seeds)
    facts = [
        f"{cells} cell{'' if cells == 1 else 's'}, {seeds} seed{'' if seeds == 1 else 's'}",
    ]
    if verdicts is not None and verdicts.kimg is not None:
        facts.append(f"{verdicts.kimg:g} kimg each")
    done = int((sweep.trials["status"] == "finished").sum())
    facts.append(f"{done} of {len(sweep.trials)} trials finished")
    seconds = float(sweep.trials["seconds"].sum())
    if seconds > 0:
        facts.append(wording.hours(seconds * sweep.devices / 3600, sweep.cost_unit))
    return [*facts, created.strftime("%-d %B %Y, %H:%M")]


def _verdict_rows(sweep: Sweep, verdicts: Verdicts) -> list[dict[str, str]]:
    """One row per cell: the baseline first, then numbers as the verdict's sentence has them."""
    rows = [_final(sweep, verdicts, verdicts.baseline)]
    for comparison in verdicts.comparisons:
        row = _final(sweep, verdicts, comparison.cell) | {"word": comparison.word}
        rows.append(row | _effect(comparison.final))
    return rows


def _final(sweep: Sweep, verdicts: Verdicts, cell: str) -> dict[str, str]:
    own = sweep.trials[(sweep.trials["cell"] == cell) & (sweep.trials["status"] == "finished")]
    values = own[verdicts.metric].dropna().to_numpy(dtype=np.float64)
    found = {"cell": cell, "sd": "", "word": ""}
    found["seeds"] = wording.share(values.size, len(sweep.seeds))
    if not values.size:
        return found | {"final": "none"}
    mean = float(values.mean())
    if values.size == 1:
        return found | {"final": wording.number(mean)}
    text, sd = wording.with_spread(mean, float(values.std(ddof=1)))
    return found | {"final": text, "sd": sd}


def _effect(found: Measure | None) -> dict[str, str]:
    if found is None:
        return dict.fromkeys(("difference", "interval", "p", "p_holm"), "")
    text = wording.interval(found.interval, found.scale)
    size = wording.number(found.mean) if found.relative is None else wording.percent(found.relative)
    return {
        "difference": _typeset(size),
        "interval": _typeset("none" if text.startswith("no ") else text.removeprefix("95 % CI ")),
        "p": wording.p_value(found.p).removeprefix("p = ").removeprefix("p "),
        "p_holm": wording.p_value(found.p_holm).removeprefix("p = ").removeprefix("p "),
    }


def _secondary(verdicts: Verdicts) -> list[dict[str, str]]:
    rows = []
    for comparison in verdicts.comparisons:
        for found in (comparison.area, comparison.target):
            if found is None:
                continue
            metric, target = wording.title(found.metric), wording.number(found.target)
            label = _MEASURES[found.name].format(metric=metric, target=target)
            values = {
                "label": label,
                "cell": comparison.cell,
                "word": found.word,
                "final": wording.number(float(np.mean(found.cell_values))),
                "baseline": wording.number(float(np.mean(found.baseline_values))),
            }
            rows.append(values | _effect(found))
    return sorted(rows, key=lambda row: row["label"].startswith("kimg"))


def _samples(sweep: Sweep) -> list[dict[str, Any]]:
    """Rows of cells, columns of seeds; a missing grid says why it is missing."""
    if not sweep.samples:
        return []
    status = sweep.trials.set_index(["cell", "seed"])["status"].to_dict()
    seeds = sorted({seed for _, seed in sweep.samples})
    rows = []
    for cell in sweep.cells:
        images = []
        for seed in seeds:
            path = sweep.samples.get((cell, seed))
            shown = path is not None and path.is_file()
            why = status.get((cell, seed), "missing")
            images.append(
                {"seed": seed, "uri": _data_uri(path) if shown and path else "", "why": why}
            )
        rows.append({"cell": cell, "images": images})
    return rows


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _trials(sweep: Sweep) -> list[dict[str, Any]]:
    rows = []
    order = {cell: place for place, cell in enumerate(sweep.cells)}
    for trial in sorted(
        sweep.trials.to_dict("records"), key=lambda t: (order[t["cell"]], t["seed"])
    ):
        reason = trial["reason"]
        rows.append(
            {
                "cell": trial["cell"],
                "seed": trial["seed"],
                "status": trial["status"],
                "reason": _reason(str(trial["status"]), reason) if isinstance(reason, str) else "",
                "kimg": f"{trial['kimg']:g}" if math.isfinite(trial["kimg"]) else "",
                "finals": [
                    wording.number(trial[name]) if math.isfinite(trial[name]) else ""
                    for name in sweep.final_metrics
                ],
                "time": wording.duration(trial["seconds"]),
                "key": str(trial["trial_key"])[:10],
            }
        )
    return rows


def _reason(status: str, reason: str) -> str:
    """The reason without the status it repeats."""
    return reason.removeprefix(f"{status}: ")


def _protocols(sweep: Sweep, given: Mapping[str, str]) -> list[dict[str, str]]:
    found = explanations(sweep)
    return [
        {
            "id": item.identifier,
            "metrics": item.metrics,
            "words": given.get(item.identifier, item.words),
        }
        for item in found
    ]
