"""`train.precision: auto`: in which precision does a device take a trial's steps fastest? Some steps of each, timed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import machine
from trainer.distributed import World, best_device
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.lazily import torch
from trainer.precision import Precision

if TYPE_CHECKING:
    from trainer.data import Source
    from trainer.training import Training
    from trainer.trial import TrialSpec

AUTO = "auto"
CHOICES: tuple[Precision, ...] = ("fp32", "bf16")
"""What is chosen from: fp16 skips steps, so it is for those who ask for it."""
LEAST = 1.1
"""Times as fast bf16 has to be: what a busy machine makes of equal ones is no reason to round."""
_ROUNDS, _ROUND_S = 3, 0.3
_WARM = 5
"""Steps before any is timed: a GPU has recorded them by then."""
_VERSION = 1
"""Raised when something else is timed."""


@dataclass(frozen=True)
class Chosen:
    """What was timed on one device."""

    device: str
    seconds: dict[str, float]
    """Of training, for an image, in each precision."""

    @property
    def precision(self) -> Precision:
        """The fastest that may be chosen."""
        return "bf16" if self.seconds["fp32"] >= LEAST * self.seconds["bf16"] else "fp32"

    def text(self) -> str:
        """`auto: bf16, an image takes 0.42 ms and 0.71 ms in fp32 (NVIDIA H100)`."""
        other = next(one for one in CHOICES if one != self.precision)
        mine, theirs = (1e3 * self.seconds[one] for one in (self.precision, other))
        return f"auto: {self.precision}, an image takes {mine:.3g} ms and {theirs:.3g} ms in {other} ({self.device})"


def asks(trial: TrialSpec) -> bool:
    """Whether its precision is to be chosen."""
    return trial.train.precision == AUTO


def in_precision(trial: TrialSpec, precision: Precision) -> TrialSpec:
    """The trial in a precision that was chosen; one that names its own keeps it."""
    if not asks(trial):
        return trial
    train = trial.train.model_copy(update={"precision": precision})
    return trial.model_copy(update={"train": train})


def fastest(trial: TrialSpec, source: Source, cache: Path) -> Chosen:
    """What suits the trial on the device where `source` lies: timed once, and kept in the cache."""
    name = device_name(source.device)
    file = cache / f"precision-{_identity(trial, name)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return Chosen(**json.loads(file.read_text()))
    found = Chosen(name, _timed(trial, source, cache))
    with contextlib.suppress(OSError):  # timed again next time
        write_whole(file, json.dumps(asdict(found)))
    return found


def precise(trial: TrialSpec, cache: Path, device: str) -> TrialSpec:
    """The trial in the precision that is the fastest here, where that is asked for; a line on stderr says which."""
    if not asks(trial):
        return trial
    if "RANK" in os.environ:
        raise UserError(
            "train.precision: auto is timed by one process: write fp32 or bf16 under torchrun"
        )
    chosen = fastest(trial, trial.data.load(Path(), cache).to(best_device(device)), cache)
    print(f"note: train.precision: {chosen.text()}", file=sys.stderr)
    return in_precision(trial, chosen.precision)


def device_name(device: torch.device) -> str:
    """For a person."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def _timed(trial: TrialSpec, source: Source, cache: Path) -> dict[str, float]:
    from trainer.compiling import share
    from trainer.training import Training

    if trial.train.compile:
        share(cache, source.device)
    size = min(trial.train.microbatch or trial.train.batch_size, trial.train.batch_size)
    trainings: dict[str, Training] = {}
    for precision in CHOICES:
        changes = {"precision": precision, "batch_size": size, "microbatch": None}
        short = trial.train.model_copy(update=changes)
        one = Training(trial.model_copy(update={"train": short}), source, World(0, 1))
        _steps(one, _WARM)
        trainings[precision] = one
    counts = {name: max(1, int(_ROUND_S / _steps(one, 1))) for name, one in trainings.items()}
    found: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(_ROUNDS):
        for name, one in trainings.items():  # in turn: a machine is not equally busy at all times
            found[name].append(_steps(one, counts[name]) / (counts[name] * size))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _steps(training: Training, count: int) -> float:
    """Seconds that so many take, until the device has taken them."""
    began = time.perf_counter()
    for _ in range(count):
        training.step()
    training.settle()
    return time.perf_counter() - began


def _identity(trial: TrialSpec, device: str) -> str:
    """Everything that a step's time may depend on."""
    spec = trial.identity()
    for name in ("seed", "evaluation", "start_from"):
        spec.pop(name, None)
    for name in ("kimg", "log_every_kimg", "precision"):
        spec["train"].pop(name, None)
    known = [_VERSION, spec, device, machine.processor(), torch.__version__]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
