"""How fast is this machine at a trial's own network, and at an extractor? A few real steps and a little generation.

Measured once per (trial but for its seed and budget, machine) and kept in the cache: what is kept needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data import Source
from trainer.distributed import World
from trainer.evaluation.generation import Generation, generate
from trainer.files import write_whole
from trainer.lazily import torch
from trainer.trial import TrialSpec

if TYPE_CHECKING:
    from trainer.evaluation.features import FeatureSpace
    from trainer.training import Training

_VERSION = 2
"""Raised when this file measures something else: what was kept before is measured again."""
_TRAIN_S, _GENERATE_S = 1.2, 0.6
"""Measured time spent on each, at most about twice as much."""
_IMAGES = 64
"""Images of a generation that is timed."""


@dataclass(frozen=True)
class Speed:
    """What one worker does in how much time."""

    train_s_per_image: float
    full_s: float
    """One draw of the full protocol, one worker, without features."""
    rung_s: float
    parameters: int
    device: str

    def seconds(self, trial: TrialSpec, workers: int, start_images: int = 0) -> tuple[float, float]:
        """(training, evaluation) wall seconds of what is left of a trial after `start_images`."""
        left = [point for point in trial.evaluation_points() if point > start_images]
        images = trial.total_images() - start_images
        full_s = self.full_s * trial.evaluation.draws
        once = trial.evaluation.rung is not None
        cost = self.rung_s * len(left) + full_s if once else full_s * len(left)
        work = [_work(g) for path, g in trial.evaluation.generations() if path != "rung"]
        cost += full_s * (sum(work[1:]) / work[0] + len(trial.averages()) - 1)
        cost += self._asking(trial, len(left))
        return images * self.train_s_per_image / workers, cost / workers

    def _asking(self, trial: TrialSpec, evaluations: int) -> float:
        """Seconds of the metrics that ask the network about real images, at so many evaluations."""
        evaluation, per_pass = trial.evaluation, self.full_s / _work(trial.evaluation.full)
        full_times = 1 if evaluation.rung is not None else evaluations
        asked = [(evaluation.full, full_times + len(trial.averages()) - 1)]
        if evaluation.rung is not None:
            asked.append((evaluation.rung, evaluations))
        return per_pass * sum(
            times * (metric.images or generation.images) * metric.work(trial.diffusion)
            for generation, times in asked
            for metric in evaluation.questions
        )


def _work(generation: Generation) -> int:
    """Images times steps."""
    return generation.images * generation.steps


def speed(trial: TrialSpec, data_root: Path, cache: Path, cpus: float, gpus: float) -> Speed:
    """The cached speed of this machine at the trial, measured now if it is not known yet."""
    device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
    threads = max(1, int(cpus))
    file = cache / f"calibration-{_identity(trial, device, threads)}.json"
    try:
        return Speed(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        measured = _measure(trial, trial.data.load(data_root, cache), device, threads)
    write_whole(file, json.dumps(asdict(measured)))
    return measured


def learning_s(
    space: FeatureSpace, outline: Source, load: Callable[[], Source], cache: Path
) -> float:
    """Cached seconds that this machine takes to train an extractor; `load` gives the examples where it is timed."""
    known = [_VERSION, space.identity(), outline.fingerprint, _machine()]
    file = cache / f"calibration-{space.kind}-{_digest(known)}.json"
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
    return _digest([cost, diffusion.objective.identity(), diffusion.prediction.heads, learning])


def _identity(trial: TrialSpec, device: str, threads: int) -> str:
    """Everything that a step or a generation may depend on; not how many there are."""
    machine = [*_machine(), device]
    if device == "cuda":
        machine.append(torch.cuda.get_device_name())
    spec = trial.identity()
    spec.pop("seed", None)
    for name in ("kimg", "log_every_kimg"):
        spec["train"].pop(name, None)
    spec["evaluation"].pop("draws", None)
    return _digest([_VERSION, spec, machine, threads])


def _machine() -> list[str]:
    """What makes steps on a CPU take the time they take."""
    return [platform.node(), platform.machine(), str(os.cpu_count()), version("torch")]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _measure(trial: TrialSpec, source: Source, device: str, threads: int) -> Speed:
    with _threads(threads):
        training = _training(trial, source.to(torch.device(device)))
        per_image = _train_cost(training)
        full = _generation_cost(training, trial.evaluation.full)
        rung = trial.evaluation.rung
        cheap = _generation_cost(training, rung) if rung is not None else 0.0
    parameters = sum(parameter.numel() for parameter in training.learner.parameters())
    return Speed(per_image, full, cheap, parameters, device)


def _training(trial: TrialSpec, source: Source) -> Training:
    """The trial's training with batches of one forward pass: larger ones take so many times as long."""
    from trainer.training import Training

    train = trial.train
    size = min(train.microbatch or train.batch_size, train.batch_size)
    small = train.model_copy(update={"batch_size": size, "microbatch": None})
    return Training(trial.model_copy(update={"train": small}), source, World(0, 1))


def _train_cost(training: Training) -> float:
    """Seconds per image of real steps."""
    seconds = _seconds(training.step, _TRAIN_S, training.source.device.type)
    return seconds / training.trial.train.batch_size


def _generation_cost(training: Training, generation: Generation) -> float:
    """Seconds of one generation, from two and more steps of a few images."""
    trial = training.trial
    count = min(_IMAGES, generation.images, trial.evaluation.batch_size)
    steps = min(generation.steps, 4)
    short = generation.model_copy(update={"steps": steps, "images": count})
    source = training.source

    def once() -> None:
        generate(
            training.average.network,
            trial.diffusion,
            source.codec,
            short,
            range(count),
            0,
            training.inputs,
            source.device,
        )

    each = _seconds(once, _GENERATE_S, source.device.type) / (count * steps)
    return each * generation.images * generation.steps


def _seconds(work: Callable[[], None], budget_s: float, device: str) -> float:
    """Median seconds of one call, the first one left out."""
    times: list[float] = []
    begun = time.perf_counter()
    number = 0
    while number < 3 or time.perf_counter() - begun < budget_s:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        number += 1
    return sorted(times[1:])[len(times[1:]) // 2]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads as a worker gets."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
