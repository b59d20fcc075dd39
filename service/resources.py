"""What does one trial occupy, and how many fit?"""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

from typing import Annotated

from pydantic import Field, field_validator

from trainer.passes import OnOOM
from trainer.spec import Spec


class Resources(Spec):
    """What one trial occupies. It is how a trial runs, not what it is: no part of its key."""

    workers: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processes that train one trial together; they share its batch."""
    gpus: Annotated[float, Field(ge=0.0, le=1024.0)] = 0.0
    """GPUs per worker; 0.5 packs two workers on one."""
    cpus: Annotated[float, Field(ge=0.01, le=1024.0)] = 1.0
    """CPUs per worker."""
    on_oom: OnOOM = "halve_microbatch"
    """Where memory runs out in a training step. halve_microbatch: the step is repeated in forward passes half as
    large, and the trial goes on with those; batch, noise and times stay the same. fail: the trial ends there."""

    @field_validator("gpus")
    @classmethod
    def _a_share_or_whole(cls, gpus: float) -> float:
        """Ray places no less than a hundredth sensibly, and no part of several."""
        if 0.0 < gpus < 0.01 or (gpus > 1.0 and gpus != int(gpus)):
            raise ValueError(f"must be 0, a share from 0.01 to 1, or a whole number, not {gpus:g}")
        return gpus

    @property
    def per_worker(self) -> dict[str, float]:
        """Ray resources of one worker."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def at_once(self, cpus: float, gpus: float) -> int:
        """How many such trials run side by side on so much."""
        by_cpu = cpus / (self.cpus * self.workers)
        by_gpu = gpus / (self.gpus * self.workers) if self.gpus else by_cpu
        return int(min(by_cpu, by_gpu) + 1e-9)
