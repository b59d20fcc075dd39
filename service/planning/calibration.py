"""How fast is a machine at a trial's own network, its evaluations, and at an extractor?

Measured once per (trial but for its seed and budget, machine, trials side by side) and kept in the cache: what is
kept needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.planning.speed import Speed, digest, machine, machine_digest
from service.resources import Capacity
from trainer.data import Source
from trainer.files import write_whole
from trainer.lazily import torch

if TYPE_CHECKING:
    from service.resources import Resources
    from trainer.evaluation.features import FeatureSpace
    from trainer.trial import TrialSpec

_VERSION = 3
"""Raised when something else is measured: what was kept before is measured again."""

_MOST = 32
"""Trials side by side, at most, while one of them is timed."""


class NotKnownError(Exception):
    """Nobody has measured that yet."""


@dataclass(frozen=True)
class Bench:
    """This machine, where trials are timed."""

    data_root: Path
    cache: Path
    resources: Resources
    """What the trial occupies that is timed."""
    room: Capacity = field(default_factory=lambda: Capacity(most=1))
    """For trials side by side; of those on GPUs, only those on the same one are company while one is timed."""
    measures: bool = True
    """Whether what is not known yet is measured now."""
    together: Callable[[TrialSpec], int] = lambda _: 1
    """How many trials take their steps as one program with such a one."""

    def speed(self, trial: TrialSpec) -> Speed:
        """The kept speed at the trial, measured now if it is not known yet. NotKnownError where it may not be."""
        identity = _identity(trial, self.threads, self.together(trial))
        others = [] if self.measures else self._alike(identity)
        for file in [self._file(identity), *others]:
            if (known := _kept(file)) is not None:
                return known
        if not self.measures:
            raise NotKnownError(identity)
        found = self._measured(trial)
        write_whole(self._file(identity), json.dumps(asdict(found)))
        return found

    def of(self, resources: Resources) -> Bench:
        """The same for trials that occupy so much."""
        return replace(self, resources=resources)

    @property
    def company(self) -> int:
        """Trials side by side while one is timed."""
        workers, gpus = self.resources.workers, self.resources.gpus
        workers *= self.room.slots(self.resources)
        return max(1, min(workers, int(1 / gpus + 1e-9) if gpus else workers, _MOST))

    @property
    def device(self) -> str:
        """What a worker trains on here."""
        return "cuda" if self.resources.gpus and torch.cuda.is_available() else "cpu"

    @property
    def threads(self) -> int:
        """Of a worker."""
        return self.resources.threads

    @property
    def place(self) -> str:
        """Where that is, for a person."""
        return "this machine"

    @property
    def place_id(self) -> str:
        """That, in names of files."""
        return machine_digest("cpu")

    @property
    def _there(self) -> str:
        """What was timed, in names of files."""
        return machine_digest(self.device)

    def _file(self, identity: str) -> Path:
        """Where the speed is kept."""
        return self.cache / f"calibration-{identity}-{self.company}-{self._there}.json"

    def _alike(self, identity: str) -> list[Path]:
        """Of any number of trials side by side."""
        return sorted(self.cache.glob(f"calibration-{identity}-*-{self._there}.json"))

    def _measured(self, trial: TrialSpec) -> Speed:
        from service.planning.company import as_a_worker, company
        from service.planning.measuring import measure

        source = trial.data.load(self.data_root, self.cache)
        how = self.cache, self.device, self.threads, self.together(trial)
        with company(self.company - 1, trial, self.data_root, *how):
            return as_a_worker(lambda: measure(trial, source, *how))


def _kept(file: Path) -> Speed | None:
    try:
        return Speed(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def learning_s(
    space: FeatureSpace, outline: Source, load: Callable[[], Source], cache: Path
) -> float:
    """Cached seconds that this machine takes to train an extractor; `load` gives the examples where it is timed."""
    known = [_VERSION, space.identity(), outline.fingerprint, machine("cpu")]
    file = cache / f"calibration-{space.kind}-{digest(known)}.json"
    try:
        return float(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        measured = space.seconds(load())
    write_whole(file, json.dumps(measured))
    return measured


def shape(trial: TrialSpec) -> str:
    """What decides a trial's cost: of its diffusion, how much is computed and what learns, not with which numbers."""
    cost, diffusion = trial.identity(), trial.diffusion
    for name in ("seed", "ema", "diffusion"):
        cost.pop(name, None)
    if (averages := len(trial.averages())) > 1:
        cost["averages"] = averages
    learning = [
        part.identity() for part in (diffusion.schedule, diffusion.timesteps) if part.learns
    ]
    return digest([cost, diffusion.objective.identity(), diffusion.prediction.heads, learning])


def _identity(trial: TrialSpec, threads: int, together: int = 1) -> str:
    """Everything that a step or a generation may depend on but the machine; not how many there are."""
    spec = trial.identity()
    spec.pop("seed", None)
    for name in ("kimg", "log_every_kimg"):
        spec["train"].pop(name, None)
    spec["evaluation"].pop("draws", None)
    return digest([_VERSION, spec, threads, *([together] if together > 1 else [])])
