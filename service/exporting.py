"""What does the house know of a model that leaves it? Its numbers, and what its experiments found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import EnvironmentProblem, UserError
from trainer.record import Record

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.results import Judged
    from service.settings import Settings
    from trainer.exchange.card import Exported, Story

WINNER = "winner"
"""Folder of the model, in the experiment's directory."""


def export_model(
    record: Record, folder: Path, settings: Settings, name: str | None = None, device: str = "cpu"
) -> Exported:
    """The trial's model as a diffusers folder, with a card of all that is known here; UserError says why not."""
    from trainer.exchange.pipeline import export
    from trainer.trained import Trained

    return export(Trained.load(record, device), folder, story_of(record, settings, name))


def story_of(record: Record, settings: Settings, name: str | None = None) -> Story:
    """Numbers of the last report, and a sentence of every experiment here that the trial is in."""
    from trainer.exchange.card import Story

    key = record.directory.resolve().name
    members = list(_members(key, settings))
    reports = [report for report in record.reports() if report.protocol]
    last = reports[-1] if reports else None
    return Story(
        name or (f"{members[0][1]}, seed {members[0][2]}" if members else key),
        key,
        {} if last is None else {each: last.metrics[each] for each in last.protocol},
        {} if last is None else last.protocol,
        tuple(_sentence(experiment, cell, settings) for experiment, cell, _ in members),
    )


def _members(key: str, settings: Settings) -> Iterator[tuple[Experiment, str, int]]:
    """The experiments that the trial is in, with its cell and seed."""
    from service.experiment.saved import SAVED, read_saved

    for file in sorted(settings.home.glob(f"experiments/*/{SAVED}")):
        try:
            experiment = read_saved(file.parent)
        except UserError:  # damaged: it says nothing of this model
            continue
        for trial in experiment.saved_trials:
            if trial.key == key:
                yield experiment, trial.cell, trial.seed


def _sentence(experiment: Experiment, cell: str, settings: Settings) -> str:
    """What an experiment says of one of its cells."""
    from dashboards.verdict.comparable import IncomparableError
    from dashboards.verdict.judging import judge
    from dashboards.verdict.sentences import comparison_sentence, headline
    from service.results import collect

    try:
        verdicts = judge(collect(experiment, settings, whole=False).evidence)
    except IncomparableError as error:
        return f"`{experiment.name}`, cell `{cell}`: no verdict yet ({error})."
    own = [each for each in verdicts.comparisons if each.cell == cell]
    if own:
        return f"`{experiment.name}`: {comparison_sentence(own[0])}"
    role = "the baseline" if cell == verdicts.baseline else "not compared"
    return f"`{experiment.name}`, in which `{cell}` is {role}: {headline(verdicts)}"


@dataclass(frozen=True)
class Winner:
    """The model that an experiment ends with."""

    cell: str
    seed: int
    key: str
    reason: str
    """Why this cell and this seed."""
    exported: Exported
    model_id: str | None
    """MLflow's id of the logged model; None where the server could not take it."""
    problem: str = ""
    """Why it could not."""

    def summary(self) -> dict[str, str | int | None]:
        """As JSON data."""
        return {
            "cell": self.cell,
            "seed": self.seed,
            "key": self.key,
            "reason": self.reason,
            "folder": str(self.exported.folder),
            "model_id": self.model_id,
        }


@dataclass(frozen=True)
class Asked:
    """What became of an experiment's `export: winner`."""

    winner: Winner | None
    refusal: str = ""
    """Why there is none: a run was not in vain for that."""

    def lines(self) -> list[str]:
        """For a person."""
        if self.winner is None:
            return [f"note: no model was exported: {self.refusal}"]
        told = [f"model:   {self.winner.exported.folder} ({self.winner.reason})"]
        return told + ([f"note: {self.winner.problem}"] if self.winner.problem else [])

    def summary(self) -> dict[str, Any]:
        """As JSON data."""
        if self.winner is None:
            return {"export": None, "export_refusal": self.refusal}
        return {"export": self.winner.summary()}


def export_as_asked(
    experiment: Experiment, settings: Settings, judged: Judged | None = None
) -> Asked | None:
    """The end of every run, by a command or in Python: the winner's model where the YAML wants it; None: it does not.

    `judged` is the verdict on what was trained, where it is known already.
    """
    from service import results

    if experiment.spec.export is None:
        return None
    try:
        if judged is None:
            sweep = results.collect(experiment, settings, whole=False)
            judged = results.judged(experiment, settings, sweep)
        return Asked(export_winner(experiment, settings, judged))
    except (UserError, EnvironmentProblem) as error:
        return Asked(None, str(error))


def export_winner(experiment: Experiment, settings: Settings, judged: Judged) -> Winner:
    """Write the winner's model to `winner/` of the experiment's directory, and log it to MLflow.

    Raises UserError where nothing has won, or its model cannot be exported.
    """
    from service.errors import ServiceError
    from service.search.study import tuned
    from service.tracking.delivery import log_model
    from trainer.exchange.pipeline import export
    from trainer.trained import Trained

    cell, why = winning_cell(judged)
    seed, of_seeds = _best_seed(judged, cell)
    known = tuned(experiment, settings)
    key = next(t.key for t in known.trials_with([seed]) if t.cell == cell)
    reason = f"{why}; {of_seeds}"
    folder = settings.experiment(experiment.name) / WINNER
    record = Record(settings.trial(key))
    story = story_of(record, settings, f"{experiment.name}: {cell}, seed {seed}")
    story = replace(story, verdicts=(*story.verdicts, f"This model: {reason}."))
    exported = export(Trained.load(record, "cpu"), folder, story)
    try:
        logged = log_model(settings, experiment.name, key, folder, _reported(record))
        return Winner(cell, seed, key, reason, exported, logged)
    except ServiceError as error:
        return Winner(cell, seed, key, reason, exported, None, str(error))


def _reported(record: Record) -> dict[str, float]:
    """The finite numbers of the full protocol."""
    result = record.result()
    metrics = {} if result is None else result.metrics
    return {
        name: value
        for name, value in metrics.items()
        if name.startswith("eval/") and math.isfinite(value)
    }


def winning_cell(judged: Judged) -> tuple[str, str]:
    """The cell that won, and why: the better one with the largest difference, else the baseline.

    Raises UserError without a verdict, unless there is one cell only.
    """
    cells = judged.sweep.cells
    if len(cells) == 1:
        return cells[0], f"`{cells[0]}` is the only cell"
    if judged.verdicts is None:
        raise UserError(f"export: nothing has won yet: {judged.refusal}")
    baseline = judged.verdicts.baseline
    better = [
        (abs(each.final.effect), each.cell)
        for each in judged.verdicts.comparisons
        if each.word == "BETTER" and each.final is not None
    ]
    if not better:
        return baseline, f"no cell is BETTER than the baseline `{baseline}`"
    cell = max(better)[1]
    more = f", by more than {len(better) - 1} others" if len(better) > 1 else ""
    return cell, f"`{cell}` is BETTER than `{baseline}`{more}"


def _best_seed(judged: Judged, cell: str) -> tuple[int, str]:
    """The seed of the cell with the best final number."""
    from dashboards.verdict.comparable import finals
    from trainer.evaluation.metric import describe

    metric = judged.sweep.metric
    values = finals(judged.sweep.evidence, metric).get(cell, {})
    if not values:
        raise UserError(f"export: `{cell}` has no finished trial with {metric}")
    member = describe(metric)
    sign = 1.0 if member is None or member.lower_is_better else -1.0
    seed = min(values, key=lambda one: sign * values[one])
    if len(values) == 1:
        return seed, f"its only finished seed is {seed}"
    mean = sum(values.values()) / len(values)
    return seed, (
        f"seed {seed} has the best {metric} of its {len(values)} seeds, {values[seed]:.4g}: chosen for it, so that "
        f"number flatters; their mean is {mean:.4g}"
    )
