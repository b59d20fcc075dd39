"""What is compared? One configuration, and what its trials are given to train on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from service.experiment.planned import PlannedTrial
from service.resources import Asked, Capacity, Resources

if TYPE_CHECKING:
    from trainer.trial import TrialSpec


@dataclass(frozen=True)
class Cell:
    """One configuration under comparison. `trial` has the first seed; `with_seed` gives the others."""

    name: str
    overrides: dict[str, Any]
    trial: TrialSpec
    asked: Asked = field(default_factory=Asked)
    """What is asked for each of its trials; no part of them."""
    share: float = 1.0
    """Of a GPU, where that is measured."""
    limit: int | None = None
    """So many workers fit where it runs, where that is known: hours of elastic trials are counted by it."""

    @property
    def choices(self) -> tuple[Resources, ...]:
        """What each of its trials may be given, the least first."""
        return self.asked.choices(self.trial.train.batch_size, self.share)

    @property
    def resources(self) -> Resources:
        """What each occupies: a whole GPU where its share is not known yet, all workers that fit."""
        return _most(self.choices, self.limit)

    def planned(self, name: str, seed: int, spec: TrialSpec, key: str) -> PlannedTrial:
        """A trial of the cell, or of a candidate for it, with its key."""
        choices = self.asked.choices(spec.train.batch_size, self.share)
        return PlannedTrial(name, seed, spec, key, _most(choices, self.limit), choices)

    def least(self) -> Cell:
        """As if nothing were needed that is measured, with the fewest workers: what has to be there at least."""
        share = 0.0 if self.asked.is_auto else self.share
        return replace(self, share=share, limit=1 if self.asked.is_elastic else None)

    def within(self, room: Capacity) -> Cell:
        """With as many workers as there is room for, where that may be chosen."""
        fits = [one.workers for one in self.choices if room.holds([one])]
        return replace(self, limit=max(fits, default=1)) if self.asked.is_elastic else self

    def to_dict(self, usual: Asked) -> dict[str, Any]:
        """As JSON data; what is `usual` in the experiment is left out."""
        told = {"overrides": self.overrides}
        told["trial"] = self.trial.model_dump(mode="json", exclude={"seed"})
        told |= {"resources": self.asked.model_dump(mode="json")} if self.asked != usual else {}
        return told | ({"share": self.share} if self.asked.is_auto else {})

    @cached_property
    def identity(self) -> str:
        """Of its trials, whatever the seed and the data."""
        return self.with_seed(0).key("")

    def with_seed(self, seed: int) -> TrialSpec:
        """The cell's trial of one seed."""
        return self.trial.model_copy(update={"seed": seed})


def _most(choices: tuple[Resources, ...], limit: int | None) -> Resources:
    fits = [one for one in choices if limit is None or one.workers <= limit]
    return (fits or choices[:1] or [Resources()])[-1]
