"""How do we come back from noise to data? A solver walks a grid of log-SNR with a denoiser.

`steps` counts grid levels; the step from the last level always ends at x0, so no solver can stop at
a noisy sample. Noise comes from the caller, seeded per image and numbered. Each file lists its members
at its bottom; here the lists are joined, and that is all there is to a member. The names imported below only spare
importers a path.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainer.diffusion.solver.base import Denoiser as Denoiser
from trainer.diffusion.solver.base import Solver as Solver
from trainer.diffusion.solver.base import SpreadDenoiser as SpreadDenoiser
from trainer.diffusion.solver.dpm import DPMAdaptive as DPMAdaptive
from trainer.diffusion.solver.dpm import DPMFast as DPMFast
from trainer.diffusion.solver.dpm import DPMSolvers
from trainer.diffusion.solver.exponential import DPMpp2M as DPMpp2M
from trainer.diffusion.solver.exponential import DPMpp2MSDE as DPMpp2MSDE
from trainer.diffusion.solver.exponential import DPMpp2SAncestral as DPMpp2SAncestral
from trainer.diffusion.solver.exponential import DPMpp3MSDE as DPMpp3MSDE
from trainer.diffusion.solver.exponential import DPMppSDE as DPMppSDE
from trainer.diffusion.solver.exponential import ExponentialSolvers
from trainer.diffusion.solver.noise import BrownianPath as BrownianPath
from trainer.diffusion.solver.noise import NoiseSource as NoiseSource
from trainer.diffusion.solver.noise import PathNoise as PathNoise
from trainer.diffusion.solver.ode import DPM2 as DPM2
from trainer.diffusion.solver.ode import LMS as LMS
from trainer.diffusion.solver.ode import DPM2Ancestral as DPM2Ancestral
from trainer.diffusion.solver.ode import Euler as Euler
from trainer.diffusion.solver.ode import EulerAncestral as EulerAncestral
from trainer.diffusion.solver.ode import Heun as Heun
from trainer.diffusion.solver.ode import ODESolvers
from trainer.diffusion.solver.posterior import DDIM as DDIM
from trainer.diffusion.solver.posterior import DDPM as DDPM
from trainer.diffusion.solver.posterior import PosteriorSolvers
from trainer.diffusion.solver.unipc import UniPC as UniPC

AnySolver = Annotated[
    PosteriorSolvers | ODESolvers | DPMSolvers | ExponentialSolvers | UniPC,
    Field(discriminator="kind"),
]
"""The members of the family."""
