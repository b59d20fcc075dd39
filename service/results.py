"""What came out of an experiment? Its trials read back, judged, and written as a report. Prints nothing."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.sweep import Sweep
from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.judging import judge
from dashboards.verdict.plain import spreads_to_list, to_dict
from dashboards.verdict.values import Verdicts
from dashboards.verdict.variance import Spread, spreads
from service.command_line import reproduction
from service.experiment.saved import SAVED, save
from service.planning.account import last_run
from service.search.standing import still_tuned, tunings
from service.search.study import tuned, tuned_by
from service.tracking.notes import REPORT
from service.verdict_log import in_force, judged_before, late_cells, note, question
from trainer.files import write_whole

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.settings import Settings
    from service.tracking.readback import SweepRows

_PACKAGES = ("diffsweep", "torch", "ray", "mlflow", "numpy")


def collect(
    experiment: Experiment,
    settings: Settings,
    *,
    metric: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
    whole: bool = True,
) -> Sweep:
    """The experiment's trials from their directories; no server is asked.

    `metric`, `baseline` and `margin` take the place of the experiment's own. Not `whole`: all that verdicts and their
    tables rest on, but no losses, pictures and clocks, which a page has.
    """
    experiment = tuned(experiment, settings)
    unit = "GPU" if all(shape.gpus for shape in experiment.shapes) else "CPU"
    trials, stopped = _given(experiment, settings)
    planned = in_force(experiment, settings)
    left_out = [seed for seed in planned.seeds if seed not in experiment.seeds]
    trials = [*trials, *judged_before(experiment, settings, left_out)]
    sweep = Sweep.from_directories(
        experiment.name,
        trials,
        settings.trials,
        metric=metric or experiment.metric,
        baseline=baseline or experiment.baseline,
        margin=experiment.spec.compare.margin if margin is None else margin,
        own_margin=experiment.spec.compare.own_margin,
        looks=planned.looks,
        order=planned.seeds,
        late=frozenset(late_cells(experiment, planned)),
        stopped=stopped,
        experiment_yaml=experiment.text,
        devices={cell.name: cell.resources.devices(unit) for cell in experiment.cells},
        cost_unit=unit,
        whole=whole,
    )
    return replace(sweep, tuning=tunings(experiment, settings))


def _given(experiment: Experiment, settings: Settings) -> tuple[list[PlannedTrial], dict[str, str]]:
    """The trials whose seeds the cells were given, and the cells that were stopped, with the reasons."""
    from service.agenda import Agenda

    if len(experiment.looks) == 1 and experiment.spec.policy.foreseen:
        return experiment.trials, {}
    agenda = Agenda(experiment, settings, attempt=None)
    stopped = {cell: stop.reason for cell, stop in agenda.stops().items()}
    given = experiment.trials if len(experiment.looks) == 1 else agenda.open_trials()
    return given, stopped


@dataclass(frozen=True)
class Judged:
    """A sweep with its verdicts, or with the reason why there are none."""

    sweep: Sweep
    verdicts: Verdicts | None
    refusal: str | None
    hint: str = ""
    """That another question was asked than the one that was planned."""
    budget: str | None = None
    """That the budget is spent: no further look comes, and `verdicts` foresee none."""

    @property
    def spreads(self) -> tuple[Spread, ...]:
        """Where the spread of what is compared comes from; empty without verdicts."""
        if self.verdicts is None:
            return ()
        cells = [comparison.cell for comparison in self.verdicts.comparisons]
        metric, baseline = self.verdicts.metric, self.verdicts.baseline
        rows = [(row.row, row.against) for row in self.verdicts.rows]
        return spreads(self.sweep.evidence, metric, baseline, cells, rows)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON data."""
        return {
            "experiment": self.sweep.name,
            "metric": self.sweep.metric,
            "baseline": self.sweep.baseline,
            "verdicts": to_dict(self.verdicts) if self.verdicts is not None else None,
            "refusal": self.refusal,
            "hint": self.hint or None,
            "budget": self.budget,
            "spread": spreads_to_list(self.spreads),
            "trials": trial_rows(self.sweep),
            **self._tuning(),
        }

    def _tuning(self) -> dict[str, Any]:
        """What the searches found so far, where anything is searched."""
        if not self.sweep.tuning:
            return {}
        return {"tuning": [asdict(found) for found in self.sweep.tuning]}


def judged(
    experiment: Experiment, settings: Settings, sweep: Sweep, *, strict: bool = False
) -> Judged:
    """The verdicts on a sweep, or why there are none; `strict` raises that as IncomparableError.

    A verdict that could have claimed something is remembered: the looks that were planned before it stand.
    """
    spent = next(iter(remarks(tuned(experiment, settings), settings)), None)
    try:
        verdicts = judge(sweep.evidence)
    except IncomparableError as error:
        if strict:
            raise
        return Judged(sweep, None, still_tuned(sweep.tuning) or str(error), budget=spent)
    note(experiment, settings, verdicts)
    if spent is not None:
        verdicts = replace(verdicts, guarantee=replace(verdicts.guarantee, following=None))
    return Judged(sweep, verdicts, None, question(experiment, settings, verdicts), spent)


def without_result(
    experiment: Experiment,
    settings: Settings,
    job_status: str,
    tracked: Iterable[Mapping[str, Any]] | None = None,
) -> set[str]:
    """Keys of trials that a job has ended, but whose results are not in the directories here.

    By MLflow's rows where there are any; otherwise by the status of a job that is over (see `Job.status`).
    """
    from service.agenda import Agenda
    from trainer.record import Record
    from trainer.report import Status

    experiment = tuned(experiment, settings)
    records = {trial.key: Record(settings.trial(trial.key)) for trial in experiment.trials}
    if tracked is not None:
        ended = {row["trial_key"] for row in tracked if Status(row["status"]).is_over}
        return {key for key in ended if records[key].result() is None}
    if job_status not in ("SUCCEEDED", "FAILED"):
        return set()
    left = {trial.key for trial, _ in Agenda(experiment, settings).open_work()}
    if job_status == "SUCCEEDED":
        return left
    return {key for key in left if records[key].failure() is None}


def tracked(experiment: Experiment, settings: Settings, curves: bool = True) -> SweepRows:
    """The experiment's trials as MLflow knows them; raises ServiceError when it is out of reach.

    Where a search ended elsewhere, and its files are there, the tracking server knows its winners.
    """
    from service.tracking.readback import newest, read_sweep

    known = tuned(experiment, settings)
    if all(known.is_tuned(cell.name) for cell in known.cells):
        return read_sweep(settings, known.name, {trial.key for trial in known.trials}, curves)
    return newest(read_sweep(settings, known.name, curves=curves), tuned_by(known))


def trial_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """One mapping per trial, empty values as None."""
    rows = sweep.trials.astype(object).to_dict("records")
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in rows
    ]


def passports(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """The objective passport of every cell; what was asked before is not computed again."""
    from service.experiment.answers import Answers

    answers = Answers(experiment.home)
    return {cell.name: answers.passport(cell.trial.diffusion) for cell in experiment.cells}


def report_page(experiment: Experiment, settings: Settings, result: Judged) -> str:
    """The HTML report as text."""
    from dashboards.page import render
    from service.tracking.addresses import links

    experiment = tuned(experiment, settings)
    return render(
        result.sweep,
        result.verdicts,
        passports(experiment),
        [*filter(None, [result.budget]), *experiment.findings()],
        command=reproduction(experiment.file, experiment.options),
        versions=versions(),
        refusal=result.refusal,
        hint=result.hint,
        costs=last_run(settings.experiment(experiment.name)),
        links=links(experiment, settings),
    )


def write_report(
    experiment: Experiment, settings: Settings, result: Judged, out: Path | None = None
) -> Path:
    """The HTML report in a file; by default in the experiment's directory."""
    path = out or settings.experiment(experiment.name) / REPORT
    write_whole(path, report_page(experiment, settings, result))
    return path


def remarks(experiment: Experiment, settings: Settings) -> list[str]:
    """What a reader has to know of what was not trained."""
    from service.agenda import Agenda

    if experiment.spec.budget is None:
        return []
    agenda = Agenda(experiment, settings, attempt=None)
    note = agenda.budget_note() if agenda.is_spent else None
    return [] if note is None else [note]


def deliver(experiment: Experiment, settings: Settings, result: Judged) -> tuple[Path, int]:
    """Write the report and hand it to MLflow: its path, and how many records wait for the server."""
    from service.tracking.delivery import attach
    from service.tracking.verdict import told

    folder, known = settings.experiment(experiment.name), tuned(experiment, settings)
    if not (folder / SAVED).exists():  # somebody deleted it while the experiment was at work
        save(experiment, folder)
    path = write_report(experiment, settings, result)
    said = told(known, result.sweep, result.verdicts, result.refusal, result.hint)
    return path, attach(settings, experiment.name, {REPORT: path}, said)


def versions() -> dict[str, str]:
    """Versions of what made the numbers."""
    known = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known
