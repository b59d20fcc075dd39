"""What can the planned seeds decide? Said before they are paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.verdict.statistics import fewest_seeds

if TYPE_CHECKING:
    from service.experiment.experiment import Experiment


def design_notes(experiment: Experiment) -> list[str]:
    """Which of the planned looks are too early for any word; empty where nothing needs saying."""
    if experiment.baseline is None or len(experiment.cells) < 2:
        return _alone(experiment)
    looks, fewest = experiment.looks, fewest_seeds()
    rule = (
        f"{fewest} pairs are the fewest with which any claim (BETTER, WORSE or SAME) is possible,"
        " for any number of cells"
    )
    if looks[-1] < fewest:
        seeds = "one seed screens, it" if looks[-1] == 1 else f"{looks[-1]} seeds screen, they"
        return [
            f"{seeds} cannot decide: {rule}; set `seeds: {fewest}` or more, or"
            f" `seeds: {{first: {fewest}, most: {4 * fewest}}}`"
        ]
    early = [str(look) for look in looks if look < fewest]
    if early:
        plural = "looks" if len(early) > 1 else "look"
        return [f"the {plural} at {' and '.join(early)} seeds can decide nothing: {rule}"]
    return []


def _alone(experiment: Experiment) -> list[str]:
    """Looks of a single cell have nothing to decide."""
    if len(experiment.looks) == 1:
        return []
    first = experiment.looks[0]
    return [f"there is one cell and nothing to decide: it is trained with the first {first} seeds"]


def seeds_phrase(experiment: Experiment) -> str:
    """`3 seeds`, `6 to 24 seeds`."""
    looks = experiment.looks
    if len(looks) > 1:
        return f"{looks[0]} to {looks[-1]} seeds"
    return f"{looks[0]} seed{'' if looks[0] == 1 else 's'}"
