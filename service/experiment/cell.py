"""What is compared? One configuration, and what its trials are given to train on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.resources import Asked, Resources

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

    @property
    def resources(self) -> Resources:
        """What each occupies; a whole GPU where its share is not known yet."""
        return self.asked.granted(self.share)

    def to_dict(self, usual: Asked) -> dict[str, Any]:
        """As JSON data; what is `usual` in the experiment is left out."""
        told = {"overrides": self.overrides}
        told["trial"] = self.trial.model_dump(mode="json", exclude={"seed"})
        told |= {"resources": self.asked.model_dump(mode="json")} if self.asked != usual else {}
        return told | ({"share": self.share} if self.asked.is_auto else {})

    def with_seed(self, seed: int) -> TrialSpec:
        """The cell's trial of one seed."""
        return self.trial.model_copy(update={"seed": seed})
