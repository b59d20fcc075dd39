"""How noisy is time t? A schedule maps t in [0, 1] (0 is data, 1 is noise) to log-SNR, and back.

Each file lists its members at its bottom; here the lists are joined, and that is all there is to a member. The names
imported below only spare importers a path.
"""

from typing import Annotated

from pydantic import Field

from trainer.diffusion.schedule.base import LOG_SNR_LIMIT as LOG_SNR_LIMIT
from trainer.diffusion.schedule.base import Schedule as Schedule
from trainer.diffusion.schedule.beta import ConstantBeta as ConstantBeta
from trainer.diffusion.schedule.beta import Hyperbolic as Hyperbolic
from trainer.diffusion.schedule.beta import Legacy as Legacy
from trainer.diffusion.schedule.beta import LinearBeta as LinearBeta
from trainer.diffusion.schedule.beta import ScaledLinearBeta as ScaledLinearBeta
from trainer.diffusion.schedule.cosine import GVP as GVP
from trainer.diffusion.schedule.cosine import Cosine as Cosine
from trainer.diffusion.schedule.cosine import CosineEnds as CosineEnds
from trainer.diffusion.schedule.cosine import CosSquared as CosSquared
from trainer.diffusion.schedule.cosine import InterpolatedCosine as InterpolatedCosine
from trainer.diffusion.schedule.cosine import ShiftedCosine as ShiftedCosine
from trainer.diffusion.schedule.learned import Learned as Learned
from trainer.diffusion.schedule.level import Interpolant as Interpolant
from trainer.diffusion.schedule.level import Laplace as Laplace
from trainer.diffusion.schedule.level import LinearSignal as LinearSignal
from trainer.diffusion.schedule.level import LogLinear as LogLinear
from trainer.diffusion.schedule.level import Sigmoid as Sigmoid
from trainer.diffusion.schedule.respacing import kept as kept
from trainer.diffusion.schedule.sde import VESDE as VESDE
from trainer.diffusion.schedule.sde import VP as VP
from trainer.diffusion.schedule.sde import VPSDE as VPSDE
from trainer.diffusion.schedule.sde import Exponential as Exponential
from trainer.diffusion.schedule.sde import Karras as Karras
from trainer.diffusion.schedule.sde import Polyexponential as Polyexponential
from trainer.diffusion.schedule.wrapped import Curve, WrappedSchedules
from trainer.diffusion.schedule.wrapped import Modified as Modified
from trainer.diffusion.schedule.wrapped import Respaced as Respaced

AnySchedule = Annotated[Curve | WrappedSchedules | Learned, Field(discriminator="kind")]
"""Everything a YAML may call a schedule; all but the last one, which must be trained, are grids too."""
