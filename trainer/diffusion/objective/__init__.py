"""Which scalar is minimized? An objective turns one example's residual into its loss."""

from typing import Annotated

from pydantic import Field

from trainer.diffusion.objective.base import Objective, Terms
from trainer.diffusion.objective.bound import VLB, Hybrid
from trainer.diffusion.objective.residual import (
    MSE,
    Gaussian,
    Huber,
    LearnedUncertainty,
    Multiscale,
)

__all__ = [
    "MSE",
    "VLB",
    "AnyObjective",
    "Gaussian",
    "Huber",
    "Hybrid",
    "LearnedUncertainty",
    "Multiscale",
    "Objective",
    "Terms",
]

AnyObjective = Annotated[
    MSE | Huber | Multiscale | Hybrid | VLB | Gaussian | LearnedUncertainty,
    Field(discriminator="kind"),
]
"""The members of the family. A new objective is one class in this package and one name here."""
