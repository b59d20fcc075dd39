"""How do we come back from noise to data? A solver walks a grid of log-SNR with a denoiser.

`steps` counts grid levels; the step from the last level always ends at x0, so no solver can stop at
a noisy sample. Noise comes from the caller, seeded per image and numbered. Each file lists its members
at its bottom; here the lists are joined.
"""

from typing import Annotated

from pydantic import Field

from trainer.diffusion.solver.base import Denoiser as Denoiser
from trainer.diffusion.solver.base import Solver as Solver
from trainer.diffusion.solver.base import SpreadDenoiser as SpreadDenoiser
from trainer.diffusion.solver.dpm import *  # noqa: F403
from trainer.diffusion.solver.dpm import DPMSolvers
from trainer.diffusion.solver.exponential import *  # noqa: F403
from trainer.diffusion.solver.exponential import ExponentialSolvers
from trainer.diffusion.solver.noise import BrownianPath as BrownianPath
from trainer.diffusion.solver.noise import NoiseSource as NoiseSource
from trainer.diffusion.solver.noise import PathNoise as PathNoise
from trainer.diffusion.solver.ode import *  # noqa: F403
from trainer.diffusion.solver.ode import ODESolvers
from trainer.diffusion.solver.posterior import *  # noqa: F403
from trainer.diffusion.solver.posterior import PosteriorSolvers
from trainer.diffusion.solver.unipc import UniPC as UniPC

AnySolver = Annotated[
    PosteriorSolvers | ODESolvers | DPMSolvers | ExponentialSolvers | UniPC,
    Field(discriminator="kind"),
]
"""The members of the family."""
