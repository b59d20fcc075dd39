"""What does one trial occupy, how many fit, and how many hours of devices are that?"""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from trainer.passes import OnOOM
from trainer.spec import Spec

_Workers = Annotated[int, Field(ge=1, le=4096)]


class Resources(Spec):
    """What one trial occupies, in numbers."""

    workers: _Workers = 1
    gpus: Annotated[float, Field(ge=0.0, le=1024.0)] = 0.0
    """Per worker."""
    cpus: Annotated[float, Field(ge=0.01, le=1024.0)] = 1.0
    """Per worker."""
    on_oom: OnOOM = "halve_microbatch"

    @property
    def per_worker(self) -> dict[str, float]:
        """Ray resources of one worker."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def at_once(self, cpus: float, gpus: float) -> int:
        """How many such trials run side by side on so much."""
        by_cpu = cpus / (self.cpus * self.workers)
        by_gpu = gpus / (self.gpus * self.workers) if self.gpus else by_cpu
        return int(min(by_cpu, by_gpu) + 1e-9)

    @property
    def slot(self) -> "Resources":
        """What decides where it fits, and nothing else of it: equal for trials of one shape."""
        return Resources(workers=self.workers, gpus=self.gpus, cpus=self.cpus)

    @property
    def threads(self) -> int:
        """Of one worker."""
        return max(1, int(self.cpus))

    def text(self) -> str:
        """`2 x (1 CPU and 0.5 GPU)`, `1 CPU`: what Ray is asked for."""
        each = " and ".join(f"{amount:g} {kind}" for kind, amount in self.per_worker.items())
        return f"{self.workers} x ({each})" if self.workers > 1 else each

    def devices(self, kind: str) -> float:
        """GPUs or CPUs (`GPU`, `CPU`) that all its workers occupy together."""
        return self.workers * (self.gpus if kind == "GPU" else self.cpus)


class Elastic(Spec):
    """As many workers as fit, of the numbers that divide the batch."""

    least: _Workers = 1
    """With fewer a trial waits."""
    most: _Workers
    """With more it never trains."""

    @model_validator(mode="after")
    def _in_order(self) -> "Elastic":
        if self.least > self.most:
            raise ValueError(f"least: {self.least} is more than most, {self.most}")
        return self


def _form(value: Any) -> str:
    """Which of the two ways of writing it is: each is checked as what it is."""
    return "elastic" if isinstance(value, dict | Elastic) else "number"


_Count = Annotated[
    Annotated[_Workers, Tag("number")] | Annotated[Elastic, Tag("elastic")], Discriminator(_form)
]


class Asked(Spec):
    """What one trial occupies. It is how a trial runs, not what it is: no part of its key."""

    workers: _Count = 1
    """Processes that train one trial together; they share its batch. `{least: 1, most: 4}`: as many as fit when the
    trial is placed; where a node is lost it goes on with as many as fit then."""
    gpus: Annotated[float, Field(ge=0.0, le=1024.0)] | Literal["auto"] = 0.0
    """GPUs per worker; 0.5 packs two workers on one. auto: the share that a trial's memory needs, measured once on a
    GPU before trials begin; 0 where there is none."""
    cpus: Annotated[float, Field(ge=0.01, le=1024.0)] = 1.0
    """CPUs per worker."""
    on_oom: OnOOM = "halve_microbatch"
    """Where memory runs out in a training step. halve_microbatch: the step is repeated in forward passes half as
    large, and the trial goes on with those; batch, noise and times stay the same. fail: the trial ends there."""

    @field_validator("gpus")
    @classmethod
    def _a_share_or_whole(cls, gpus: float | str) -> float | str:
        """Ray places no less than a hundredth sensibly, and no part of several."""
        if isinstance(gpus, str):
            return gpus
        if 0.0 < gpus < 0.01 or (gpus > 1.0 and gpus != int(gpus)):
            raise ValueError(f"must be 0, a share from 0.01 to 1, or a whole number, not {gpus:g}")
        return gpus

    @property
    def is_auto(self) -> bool:
        """Whether its share of a GPU is measured."""
        return self.gpus == "auto"

    @property
    def is_elastic(self) -> bool:
        """Whether how many workers train a trial depends on what there is."""
        return isinstance(self.workers, Elastic)

    @property
    def count(self) -> str:
        """`2`, `1 to 4`: workers of a trial."""
        if isinstance(self.workers, Elastic):
            return f"{self.workers.least} to {self.workers.most}"
        return f"{self.workers}"

    def numbers(self, batch: int) -> tuple[int, ...]:
        """How many workers may train a trial with this batch, the fewest first; elastic ones share it evenly."""
        if not isinstance(self.workers, Elastic):
            return (self.workers,)
        every = range(self.workers.least, min(self.workers.most, batch) + 1)
        return tuple(number for number in every if batch % number == 0)

    def choices(self, batch: int, share: float) -> tuple[Resources, ...]:
        """What a trial with this batch may be given, the least first; `share` of a GPU where that is measured."""
        gpus = share if isinstance(self.gpus, str) else self.gpus
        return tuple(
            Resources(workers=number, gpus=gpus, cpus=self.cpus, on_oom=self.on_oom)
            for number in self.numbers(batch)
        )

    def text(self) -> str:
        """`2 x (1 CPU and auto GPU)`, `1 to 4 x (1 CPU)`."""
        gpus = self.gpus if isinstance(self.gpus, str) else f"{self.gpus:g}"
        each = f"{self.cpus:g} CPU" + (f" and {gpus} GPU" if self.gpus else "")
        return f"{self.count} x ({each})" if self.workers != 1 else each


@dataclass(frozen=True)
class Capacity:
    """How much there is for trials that run side by side."""

    cpus: float = math.inf
    gpus: float = math.inf
    most: int | None = None
    """At most so many trials, whatever else there is."""

    def holds(self, together: Sequence[Resources]) -> bool:
        """Whether all of these run side by side."""
        cpus, gpus = (sum(one.devices(kind) for one in together) for kind in ("CPU", "GPU"))
        is_few = self.most is None or len(together) <= self.most
        return is_few and cpus <= self.cpus + 1e-9 and gpus <= self.gpus + 1e-9

    def slots(self, *shapes: Resources) -> int:
        """How many trials run side by side where all are of the smallest of these shapes; at least one."""
        bounds = [math.inf if self.most is None else self.most]
        if math.isfinite(self.cpus) or math.isfinite(self.gpus):
            bounds.append(max(one.at_once(self.cpus, self.gpus) for one in shapes))
        return max(1, int(min(bounds)))


@dataclass(frozen=True)
class DeviceHours:
    """Hours of training and evaluation, over all workers."""

    cpu: float = 0.0
    gpu: float = 0.0
    bare_cpu: float = 0.0
    """CPU-hours of trials that have no GPU."""
    kinds: frozenset[str] = frozenset()
    """What its trials mainly occupy: `GPU`, `CPU` or both."""

    @classmethod
    def of(cls, work: Iterable[tuple[float, Resources]]) -> "DeviceHours":
        """Of trials that train and evaluate for so many seconds, each on its own devices."""
        cpu = gpu = bare = 0.0
        kinds = set[str]()
        for seconds, one in work:
            hours = seconds / 3600
            cpu, gpu = cpu + hours * one.devices("CPU"), gpu + hours * one.devices("GPU")
            bare += 0.0 if one.gpus else hours * one.devices("CPU")
            kinds.add("GPU" if one.gpus else "CPU")
        return cls(cpu, gpu, bare, frozenset(kinds))
