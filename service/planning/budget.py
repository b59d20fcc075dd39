"""What does a budget leave of a plan? Said before anything of it is spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dashboards.text import counted
from service.spending import has_begun, left_over

if TYPE_CHECKING:
    from service.agenda import Agenda
    from service.experiment import Experiment, PlannedTrial

Cost = Callable[["PlannedTrial", int], float]
"""Seconds that are left of a trial until so many images."""


def within_budget(
    experiment: Experiment, agenda: Agenda, cost: Cost
) -> tuple[dict[str, int], str | None]:
    """The open work, by key, that the budget is expected to let begin, and a line on it; None without a budget.

    Hours are spent in the order of the work; what has begun goes on beyond them.
    """
    work, budget = agenda.open_work(), experiment.spec.budget
    until = {trial.key: images for trial, images in work}
    if budget is None or (note := agenda.budget_note()) is not None:
        return until, None if budget is None else note
    standings = {trial.key: agenda.standing(trial.key) for trial in experiment.trials}
    occupied = {trial.key: trial.resources for trial in experiment.trials}
    left = left_over(budget, occupied, standings)
    spent, label = 0.0, budget.label()
    for trial, images in work if left is not None else ():
        if spent >= (left or 0.0) and not has_begun(standings[trial.key]):
            del until[trial.key]
        else:
            spent += cost(trial, images) * budget.devices(trial.resources)
    if len(until) < len(work):
        rest = f"about {len(until)} of the {counted(len(work), 'trial')} that are left"
        return until, f"the budget of {label} is expected to last for {rest}"
    note = f"the budget of {label} lasts for the {counted(len(work), 'trial')} that are wanted now"
    if budget.trials is not None and budget.trials < len(experiment.trials):
        note += f", not for all {len(experiment.trials)} that may be asked for"
    return until, note


def is_beyond_budget(
    experiment: Experiment, trials: float, cpu_hours: float, gpu_hours: float
) -> bool:
    """Whether so many trials, and hours of devices in all of them, are more than the budget."""
    budget = experiment.spec.budget
    if budget is None:
        return False
    if budget.trials is not None:
        return trials > budget.trials
    return (cpu_hours if budget.gpu_hours is None else gpu_hours) > budget.limit
