"""What is one trial of an experiment? A cell with a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.resources import Resources
    from trainer.trial import TrialSpec


@dataclass(frozen=True)
class PlannedTrial:
    """Cell x seed: one trial with its key."""

    cell: str
    seed: int
    spec: TrialSpec
    key: str
    """Trial key: the name of its directory, equal for equal trials of all experiments.

    A trial whose setting is still searched has a name that no directory has.
    """
    resources: Resources
    """What it occupies while it trains; of an elastic one the most that fits."""
    choices: tuple[Resources, ...]
    """What it may be given, the least first."""
