"""How do we come back from noise to data? A solver walks a grid of log-SNR with a denoiser.

`steps` counts grid levels; the step from the last level always ends at x0, so no solver can stop at
a noisy sample. Noise comes from the caller, seeded per image and numbered.
"""

from typing import Annotated

from pydantic import Field

from trainer.diffusion.solver.base import Denoiser, Solver, SpreadDenoiser
from trainer.diffusion.solver.dpm import DPMAdaptive, DPMFast
from trainer.diffusion.solver.exponential import (
    DPMpp2M,
    DPMpp2MSDE,
    DPMpp2SAncestral,
    DPMpp3MSDE,
    DPMppSDE,
)
from trainer.diffusion.solver.noise import BrownianPath, NoiseSource, PathNoise
from trainer.diffusion.solver.ode import DPM2, LMS, DPM2Ancestral, Euler, EulerAncestral, Heun
from trainer.diffusion.solver.posterior import DDIM, DDPM
from trainer.diffusion.solver.unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "DPM2",
    "LMS",
    "AnySolver",
    "BrownianPath",
    "DPM2Ancestral",
    "DPMAdaptive",
    "DPMFast",
    "DPMpp2M",
    "DPMpp2MSDE",
    "DPMpp2SAncestral",
    "DPMpp3MSDE",
    "DPMppSDE",
    "Denoiser",
    "Euler",
    "EulerAncestral",
    "Heun",
    "NoiseSource",
    "PathNoise",
    "Solver",
    "SpreadDenoiser",
    "UniPC",
]

AnySolver = Annotated[
    DDPM
    | DDIM
    | Euler
    | EulerAncestral
    | Heun
    | DPM2
    | DPM2Ancestral
    | LMS
    | DPMFast
    | DPMAdaptive
    | DPMpp2SAncestral
    | DPMppSDE
    | DPMpp2M
    | DPMpp2MSDE
    | DPMpp3MSDE
    | UniPC,
    Field(discriminator="kind"),
]
"""The members of the family. A new solver is one class in this package and one name here."""
