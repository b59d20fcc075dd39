"""How much of an experiment's budget is spent, and what may still begin? Answered from the trials' records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.policy.base import Standing
from trainer.report import Status

if TYPE_CHECKING:
    from service.experiment.budget import Budget
    from service.resources import Resources


def seconds(standing: Standing) -> float:
    """Wall seconds of a trial's training and evaluation so far, up to its last evaluation."""
    if standing.result is not None:
        return standing.result.seconds + standing.result.eval_seconds
    total, before = 0.0, 0
    for report in standing.reports:
        pace = report.metrics.get("sys/img_per_s", 0.0)
        total += (report.images - before) / pace if pace > 0 else 0.0
        total += report.metrics.get("sys/eval_s", 0.0)
        before = report.images
    return total


def has_begun(standing: Standing) -> bool:
    """Whether its record holds anything of a training."""
    return standing.status is not Status.WAITING


def left_over(
    budget: Budget, occupied: Mapping[str, Resources], standings: Mapping[str, Standing]
) -> float | None:
    """Seconds of devices of its unit that may still be spent; None for a budget of trials. Trials are known by key."""
    if budget.trials is not None:
        return None
    spent = sum(seconds(one) * budget.devices(occupied[key]) for key, one in standings.items())
    return max(0.0, budget.limit * 3600 - spent)


def room(
    budget: Budget, occupied: Mapping[str, Resources], standings: Mapping[str, Standing]
) -> int | None:
    """How many more trials may begin: 0 once the budget is spent, None for no limit yet.

    `occupied` is what each trial occupies, by its key.
    """
    if budget.trials is not None:
        begun = sum(has_begun(standing) for standing in standings.values())
        return max(0, budget.trials - begun)
    return None if left_over(budget, occupied, standings) else 0


def affordable(
    wanted: Mapping[str, int], standings: Mapping[str, Standing], left: int | None
) -> dict[str, int]:
    """The wanted trials, by key, without those beyond the `left` new ones; all that have begun go on."""
    kept: dict[str, int] = {}
    new = 0
    for key, until in wanted.items():
        is_new = not has_begun(standings[key])
        if not is_new or left is None or new < left:
            kept[key] = until
            new += is_new
    return kept
