"""Where does training look? A timestep sampler is a quantile: uniform u in (0, 1) to log-SNR.

Each file lists its members at its bottom; here the lists are joined, and that is all there is to a member. The names
imported below only spare importers a path.
"""

from typing import Annotated

from pydantic import Field

from trainer.diffusion.timestep.adaptive import LossSecondMoment as LossSecondMoment
from trainer.diffusion.timestep.adaptive import entry_index as entry_index
from trainer.diffusion.timestep.base import LevelLaw as LevelLaw
from trainer.diffusion.timestep.base import TimeLaw as TimeLaw
from trainer.diffusion.timestep.base import TimestepSampler as TimestepSampler
from trainer.diffusion.timestep.base import spread as spread
from trainer.diffusion.timestep.composed import ComposedSamplers
from trainer.diffusion.timestep.composed import Importance as Importance
from trainer.diffusion.timestep.composed import Law as Law
from trainer.diffusion.timestep.composed import Tilted as Tilted
from trainer.diffusion.timestep.level import Laplace as Laplace
from trainer.diffusion.timestep.level import LogNormal as LogNormal
from trainer.diffusion.timestep.level import SplitLogNormal as SplitLogNormal
from trainer.diffusion.timestep.p2 import P2 as P2
from trainer.diffusion.timestep.time import Beta as Beta
from trainer.diffusion.timestep.time import CosMap as CosMap
from trainer.diffusion.timestep.time import LogitNormal as LogitNormal
from trainer.diffusion.timestep.time import Mode as Mode
from trainer.diffusion.timestep.time import Speed as Speed
from trainer.diffusion.timestep.time import Uniform as Uniform
from trainer.diffusion.timestep.truncated import CosineInterpolated as CosineInterpolated
from trainer.diffusion.timestep.truncated import LogLogistic as LogLogistic
from trainer.diffusion.timestep.truncated import LogUniform as LogUniform
from trainer.diffusion.timestep.truncated import VDiffusion as VDiffusion

AnyTimestepSampler = Annotated[
    Law | ComposedSamplers | LossSecondMoment, Field(discriminator="kind")
]
"""Everything a YAML may call a timestep sampler; the last one has a memory and stands for itself alone."""
