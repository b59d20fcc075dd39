"""What came out of an experiment? Its sweep read back, judged, printed and written as a report."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards import wording
from dashboards.pairing import finals
from dashboards.runs import IncomparableError, Sweep
from dashboards.verdict import Verdicts, judge
from service.commands.common import print_table, say

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings

_PACKAGES = ("diffsweep", "torch", "ray", "mlflow", "numpy")


def collect(
    experiment: Experiment, settings: Settings, failures: Mapping[str, str] | None = None
) -> Sweep:
    """The experiment's trials from their directories; no server is asked."""
    resources = experiment.spec.resources
    return Sweep.from_directories(
        experiment.name,
        experiment.trials,
        settings.trials,
        metric=experiment.metric,
        baseline=experiment.baseline,
        margin=experiment.spec.compare.margin,
        experiment_yaml=experiment.text,
        gpus=resources.gpus * resources.workers,
        cpus=resources.cpus * resources.workers,
        failures=failures,
    )


def try_judge(sweep: Sweep) -> tuple[Verdicts | None, str | None]:
    """The verdicts, or why there are none."""
    try:
        return judge(sweep), None
    except IncomparableError as error:
        return None, str(error)


def print_comparison(sweep: Sweep, verdicts: Verdicts | None) -> None:
    """One row per cell: its mean, the paired difference and the verdict; then cells not compared."""
    values = finals(sweep, sweep.metric) if sweep.metric in sweep.trials.columns else {}
    found = {c.cell: c for c in verdicts.comparisons} if verdicts is not None else {}
    refused = {r.cell: r for r in verdicts.refused} if verdicts is not None else {}
    rows = []
    for cell in sweep.cells:
        row = [cell, *_mean(values.get(cell, {}), len(sweep.seeds))]
        comparison = found.get(cell)
        if comparison is None or comparison.final is None:
            role = "baseline" if verdicts is not None and cell == verdicts.baseline else ""
            role = "not compared" if cell in refused else role
            rows.append([*row, "", "", "", comparison.word if comparison else role])
            continue
        measure = comparison.final
        size = wording.percent(measure.relative) if measure.relative is not None else "n/a"
        p = wording.p_value(measure.p_holm)
        interval = wording.interval(measure.interval, measure.scale)
        rows.append([*row, size, interval, p, comparison.word])
    metric = wording.title(sweep.metric)
    headings = ("cell", "seeds", metric, "difference", "interval", "p (Holm)", "verdict")
    print_table(headings, rows, right=f"seeds|{metric}|difference")
    for refusal in refused.values():
        say(f"`{refusal.cell}` is not compared: {refusal.reason}")


def _mean(by_seed: Mapping[int, float], planned: int) -> list[str]:
    """Over how many seeds, and mean with spread."""
    values = list(by_seed.values())
    over = wording.share(len(values), planned)
    if not values:
        return [over, "n/a"]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return [over, wording.number(mean)]
    sd = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return [over, " ± ".join(wording.with_spread(mean, sd))]


def write_report(
    experiment: Experiment,
    settings: Settings,
    sweep: Sweep,
    judged: tuple[Verdicts | None, str | None],
    out: Path | None = None,
) -> Path:
    """The HTML report; by default in the experiment's directory."""
    from dashboards.page import render
    from trainer.diffusion.passport import passport

    verdicts, refusal = judged
    cards = {cell.name: passport(cell.trial.diffusion).to_dict() for cell in experiment.cells}
    path = out or settings.experiment(experiment.name) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    page = render(
        sweep,
        verdicts,
        cards,
        experiment.findings(),
        command=command(experiment),
        versions=versions(),
        refusal=refusal,
    )
    path.write_text(page, encoding="utf-8")
    return path


def command(experiment: Experiment) -> str:
    """What anybody types, anywhere, to run this experiment."""
    return shlex.join(["diffsweep", *_words(experiment)])


def continuation(experiment: Experiment, settings: Settings) -> str:
    """What a person types here to run this experiment on."""
    from service.command_line import diffsweep

    return diffsweep(*_words(experiment), settings=settings)


def _words(experiment: Experiment) -> list[str]:
    words = ["run", experiment.file]
    for option in experiment.options:
        words += ["-o", option]
    return words


def versions() -> dict[str, str]:
    """Versions of what made the numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def as_json(sweep: Sweep, judged: tuple[Verdicts | None, str | None]) -> dict[str, Any]:
    """The comparison as JSON data."""
    verdicts, refusal = judged
    return {
        "experiment": sweep.name,
        "metric": sweep.metric,
        "baseline": sweep.baseline,
        "verdicts": verdicts.to_dict() if verdicts is not None else None,
        "refusal": refusal,
        "trials": trial_rows(sweep),
    }


def trial_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """One mapping per trial, empty values as None."""
    rows = sweep.trials.astype(object).to_dict("records")
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in rows
    ]


def deliver(
    experiment: Experiment,
    settings: Settings,
    sweep: Sweep,
    judged: tuple[Verdicts | None, str | None],
) -> tuple[Path, int]:
    """Write the report and hand it to MLflow: its path, and how many records wait for the server."""
    from service.tracking import attach

    path = write_report(experiment, settings, sweep, judged)
    return path, attach(settings, experiment.name, {"report.html": path})


def conclude(
    experiment: Experiment,
    settings: Settings,
    sweep: Sweep,
    judged: tuple[Verdicts | None, str | None],
) -> None:
    """After a run: table, verdict and report, all printed."""
    from service.tracking import ui_command, waiting_note

    verdicts, refusal = judged
    say()
    print_comparison(sweep, verdicts)
    say()
    say(f"verdict: {verdicts.sentence()}" if verdicts is not None else f"no verdict: {refusal}")
    say()
    path, left = deliver(experiment, settings, sweep, judged)
    say(f"report:  {path}")
    say(f"MLflow:  {ui_command(settings)}")
    if left:
        say(f"note: {waiting_note(settings, experiment.name, left)}")
