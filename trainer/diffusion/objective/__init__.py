"""Which scalar is minimized? An objective turns one example's residual into its loss.

Each file lists its members at its bottom; here the lists are joined.
"""

from typing import Annotated

from pydantic import Field

from trainer.diffusion.objective.base import Objective as Objective
from trainer.diffusion.objective.base import Terms as Terms
from trainer.diffusion.objective.bound import *  # noqa: F403
from trainer.diffusion.objective.bound import BoundObjectives
from trainer.diffusion.objective.residual import *  # noqa: F403
from trainer.diffusion.objective.residual import ResidualObjectives

AnyObjective = Annotated[ResidualObjectives | BoundObjectives, Field(discriminator="kind")]
"""The members of the family."""
