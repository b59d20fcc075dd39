"""Which scalar is minimized? An objective turns one example's residual into its loss.

Each file lists its members at its bottom; here the lists are joined, and that is all there is to a member. The names
imported below only spare importers a path.
"""

from typing import Annotated

from pydantic import Field

from trainer.diffusion.objective.base import Objective as Objective
from trainer.diffusion.objective.base import Part as Part
from trainer.diffusion.objective.base import Terms as Terms
from trainer.diffusion.objective.bound import VLB as VLB
from trainer.diffusion.objective.bound import BoundObjectives
from trainer.diffusion.objective.bound import Hybrid as Hybrid
from trainer.diffusion.objective.residual import MSE as MSE
from trainer.diffusion.objective.residual import Gaussian as Gaussian
from trainer.diffusion.objective.residual import Huber as Huber
from trainer.diffusion.objective.residual import LearnedUncertainty as LearnedUncertainty
from trainer.diffusion.objective.residual import Multiscale as Multiscale
from trainer.diffusion.objective.residual import ResidualObjectives
from trainer.diffusion.objective.residual import cosine_basis as cosine_basis

AnyObjective = Annotated[ResidualObjectives | BoundObjectives, Field(discriminator="kind")]
"""The members of the family."""
