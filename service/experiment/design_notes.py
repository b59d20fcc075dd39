"""What can the planned seeds decide? Said before they are paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.text import listed
from dashboards.verdict.looks import spending
from dashboards.verdict.statistics import ALPHA, fewest_seeds, smallest_p

if TYPE_CHECKING:
    from service.experiment.experiment import Experiment


_WIDE = 0.25
"""A margin within which differences that anybody would report are called the same."""


def design_notes(experiment: Experiment) -> list[str]:
    """Which looks are too early for any word, which policy stops nobody, which margin hides what is looked for."""
    return [*_looks(experiment), *_policy(experiment), *_margin(experiment)]


def _policy(experiment: Experiment) -> list[str]:
    policy = experiment.spec.policy
    why = policy.idle(len(experiment.cells))
    return (
        [f"`policy: {policy.kind}` stops nobody: {why}; leave it out, or change that"]
        if why
        else []
    )


def _margin(experiment: Experiment) -> list[str]:
    margin = experiment.spec.compare.margin
    if margin <= _WIDE or len(experiment.cells) < 2:
        return []
    return [
        f"`compare.margin: {margin:g}` calls cells the SAME that differ by {100 * margin:.3g} % of the baseline: "
        "0.02 is usual"
    ]


def _looks(experiment: Experiment) -> list[str]:
    if experiment.baseline is None or len(experiment.cells) < 2:
        return _alone(experiment)
    rivals = len(experiment.cells) - 1
    if experiment.spec.policy.stops_cells and rivals > 1:
        return _survivors(experiment, rivals)
    looks, fewest = experiment.looks, fewest_seeds()
    rule = (
        f"{fewest} pairs are the fewest with which any claim (BETTER, WORSE or SAME) is possible,"
        " for any number of cells"
    )
    if looks[-1] < fewest:
        return [f"{_screens(looks[-1])} cannot decide: {rule}; {_set_seeds(fewest)}"]
    early = [str(look) for look in looks if look < fewest]
    if early:
        return [f"{_looks_at(early)} can decide nothing: {rule}"]
    return []


def _survivors(experiment: Experiment, rivals: int) -> list[str]:
    """A policy that stops cells leaves survivors, whose p is multiplied by rivals / survivors."""
    looks, spent = experiment.looks, spending(experiment.looks, ALPHA / rivals)
    fewest = fewest_seeds(ALPHA / rivals)
    rule = (
        f"`policy: {experiment.spec.policy.kind}` may stop cells, which the p of those that are left counts"
        f" too: if one of {rivals} rivals is left, any claim (BETTER, WORSE or SAME) takes {fewest} pairs"
        " at least"
    )
    if looks[-1] < fewest_seeds():
        return [f"{_screens(looks[-1])} cannot decide: {rule}; {_set_seeds(fewest)}"]
    if looks[-1] < fewest:
        left = next(n for n in range(1, rivals + 1) if smallest_p(looks[-1]) * rivals / n < ALPHA)
        fewer = (
            f"with fewer than {left} of them" if left < rivals else "once one of them is stopped"
        )
        return [f"{rule}; {looks[-1]} can decide nothing {fewer}: {_set_seeds(fewest)}"]
    early = [
        str(look) for look, share in zip(looks, spent, strict=True) if smallest_p(look) >= share
    ]
    return [f"{rule}; {_looks_at(early)} can then decide nothing"] if early else []


def _screens(seeds: int) -> str:
    return "one seed screens, it" if seeds == 1 else f"{seeds} seeds screen, they"


def _set_seeds(fewest: int) -> str:
    return f"set `seeds: {fewest}` or more, or `seeds: {{first: {fewest}, most: {4 * fewest}}}`"


def _looks_at(looks: list[str]) -> str:
    return f"the look{'s' if len(looks) > 1 else ''} at {listed(looks)} seeds"


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
