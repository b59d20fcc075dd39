"""What does one trial occupy, and how many fit?"""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from trainer.spec import Spec


class Resources(Spec):
    """What one trial occupies. It is how a trial runs, not what it is: no part of its key."""

    workers: PositiveInt = 1
    """Processes that train one trial together; they share its batch."""
    gpus: NonNegativeFloat = 0.0
    """GPUs per worker; 0.5 packs two workers on one."""
    cpus: PositiveFloat = 1.0
    """CPUs per worker."""

    @property
    def per_worker(self) -> dict[str, float]:
        """Ray resources of one worker."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def at_once(self, cpus: float, gpus: float) -> int:
        """How many such trials run side by side on so much."""
        by_cpu = cpus / (self.cpus * self.workers)
        by_gpu = gpus / (self.gpus * self.workers) if self.gpus else by_cpu
        return int(min(by_cpu, by_gpu) + 1e-9)
