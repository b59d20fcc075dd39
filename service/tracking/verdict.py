"""What does MLflow say of a verdict? Words as tags and descriptions, differences and p values as metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dashboards.verdict.values import Measure, Verdicts
from service.tracking.announce import cell_runs
from service.tracking.keys import NOTE, VERDICT, sweep_key
from service.tracking.notes import LINKS, of_cell

if TYPE_CHECKING:
    from dashboards.sweep import Sweep
    from service.experiment import Experiment

_UNUSABLE = re.compile(r"[^\w.\- :]", re.ASCII)


@dataclass
class Told:
    """What the runs of an experiment say, by key."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    points: dict[str, list[tuple[str, int, float]]] = field(default_factory=dict)
    """Metric, number of pairs, value."""
    experiment: str = ""
    """Of the experiment: MLflow shows its first line above the runs."""

    def tag(self, run: str, **tags: str) -> None:
        """Add tags to a run."""
        self.tags.setdefault(run, {}).update(tags)


def told(
    experiment: Experiment,
    found: Sweep,
    verdicts: Verdicts | None,
    refusal: str | None,
    hint: str = "",
) -> Told:
    """Everything that the sweep's run and those of the cells say of a verdict, or of why there is none."""
    from dashboards.exports import export
    from dashboards.verdict.sentences import comparison_sentence, headline

    sweep, runs, told = sweep_key(experiment.name), cell_runs(experiment), Told()
    hint = f"\n\n{hint}" if hint else ""
    if verdicts is None:
        told.experiment = f"{LINKS} · No verdict: {refusal}"
        told.tag(sweep, **{NOTE: told.experiment})
        return told
    said, rows = headline(verdicts), export(found, verdicts, "markdown").rstrip()
    told.experiment = f"{LINKS} · {said}\n\n{rows}{hint}"
    told.tag(sweep, verdict=said, **{NOTE: f"{LINKS}\n\n{rows}\n\n{said}{hint}"})
    cells = {cell.name: of_cell(experiment, cell) for cell in experiment.cells}
    named = metric_names([c.cell for c in verdicts.comparisons])
    for comparison in verdicts.comparisons:
        cell = comparison.cell
        own = f"{comparison_sentence(comparison)}\n\n{cells[cell]}"
        told.tag(runs[cell], verdict=comparison.word, **{NOTE: own})
        told.tag(runs[cell], **{"verdict.effect": _effect(comparison.final)})
        for run, name in ((sweep, f"{VERDICT}{named[cell]}/"), (runs[cell], VERDICT)):
            told.points.setdefault(run, []).extend(_points(name, comparison.final))
    for row in verdicts.rows:
        than = "same_training" if row.same_training else "baseline"
        name = f"verdict.{row.row.protocol}.against_{than}"
        told.tag(runs[row.row.cell], **{name: row.word, f"{name}.effect": _effect(row.final)})
        beginning = f"{VERDICT}{row.row.protocol}.against_{than}/"
        told.points.setdefault(runs[row.row.cell], []).extend(_points(beginning, row.final))
    return told


def metric_names(cells: list[str]) -> dict[str, str]:
    """Cells by names that MLflow takes in a metric's: it knows no `~`, `=` or `,`. No two become one."""
    names: dict[str, str] = {}
    for cell in cells:
        name = plain = _UNUSABLE.sub(
            "_", cell.replace("=", ":").replace(",", " ").replace("~", ":")
        )
        count = 1
        while name in names.values():
            count += 1
            name = f"{plain} {count}"
        names[cell] = name
    return names


def _points(beginning: str, final: Measure | None) -> Iterator[tuple[str, int, float]]:
    """Effects as `--json` has them: shares of the baseline, or the metric's own unit."""
    if final is None:
        return
    ends = final.interval
    numbers = {"difference": final.effect, "low": ends.low, "high": ends.high}
    for name, number in {**numbers, "p": final.p_adjusted}.items():
        if number is not None:
            yield f"{beginning}{name}", final.tested, number


def _effect(final: Measure | None) -> str:
    from dashboards.text import counted
    from dashboards.verdict.wording import effect

    if final is None:
        return ""
    return effect(final) + (f", {counted(len(final.seeds), 'pair')}" if final.seeds else "")
