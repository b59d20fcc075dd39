"""How fast is this machine at a trial's own network? A few real training steps and a little generation.

Measured once per (network, batch, evaluation, machine) and kept in the cache.
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
from pathlib import Path

import torch
from torch import nn

from trainer.data import Batches, Dataset
from trainer.evaluation.evaluator import generate
from trainer.evaluation.protocol import Generation
from trainer.learner import Learner
from trainer.trial import TrialSpec

_TRAIN_S, _GENERATE_S = 1.2, 0.6
"""Measured time spent on each, at most about twice as much."""
_IMAGES = 64
"""Images of a generation that is timed."""


@dataclass(frozen=True)
class Speed:
    """What one worker does in how much time."""

    train_s_per_image: float
    full_s: float
    """One evaluation under the full protocol, one worker, without features."""
    rung_s: float
    parameters: int
    device: str

    def seconds(self, trial: TrialSpec, workers: int, start_images: int = 0) -> tuple[float, float]:
        """(training, evaluation) wall seconds of what is left of a trial after `start_images`."""
        left = [point for point in trial.evaluation_points() if point > start_images]
        images = trial.total_images() - start_images
        once = trial.evaluation.rung is not None
        cost = self.rung_s * len(left) + self.full_s if once else self.full_s * len(left)
        return images * self.train_s_per_image / workers, cost / workers


def speed(trial: TrialSpec, data_root: Path, cache: Path, cpus: float, gpus: float) -> Speed:
    """The cached speed of this machine at the trial, measured now if it is not known yet."""
    device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
    threads = max(1, int(cpus))
    file = cache / f"calibration-{_identity(trial, device, threads)}.json"
    try:
        return Speed(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        measured = _measure(trial, trial.data.load(data_root), device, threads)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(asdict(measured)))
    partial.replace(file)
    return measured


def shape(trial: TrialSpec) -> str:
    """What decides a trial's cost: trials of equal shape take equally long."""
    text = trial.model_copy(update={"seed": 0}).model_dump(
        mode="json", exclude={"diffusion", "ema"}
    )
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]


def _identity(trial: TrialSpec, device: str, threads: int) -> str:
    machine = [platform.node(), platform.machine(), str(os.cpu_count()), torch.__version__, device]
    if device == "cuda":
        machine.append(torch.cuda.get_device_name())
    train = trial.train.model_dump(mode="json", exclude={"kimg", "log_every_kimg"})
    parts = [trial.data.canonical(), trial.model.canonical(), trial.evaluation.canonical()]
    text = json.dumps([*parts, train, trial.diffusion.prediction.canonical(), machine, threads])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _measure(trial: TrialSpec, dataset: Dataset, device: str, threads: int) -> Speed:
    with _threads(threads):
        on_device = dataset.to(torch.device(device))
        learner = Learner(trial, dataset).to(torch.device(device))
        network = learner.network
        per_image = _train_cost(trial, on_device, learner)
        full = _generation_cost(trial, on_device, network, trial.evaluation.full)
        rung = trial.evaluation.rung
        cheap = _generation_cost(trial, on_device, network, rung) if rung is not None else 0.0
    parameters = sum(parameter.numel() for parameter in learner.parameters())
    return Speed(per_image, full, cheap, parameters, device)


def _train_cost(trial: TrialSpec, dataset: Dataset, learner: Learner) -> float:
    """Seconds per image of real steps: batch, noise, loss, backward, optimizer."""
    size = min(trial.train.microbatch or trial.train.batch_size, trial.train.batch_size)
    batches, optimizer = Batches(dataset, 0), trial.optimizer.build(learner)
    device = dataset.examples.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=trial.train.precision == "bf16")

    def step(number: int) -> None:
        first = number * size
        index = torch.arange(first, first + size, device=device)
        with autocast:
            loss = learner(batches.get(first, size), index, batches.labels(first, size)).mean()
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return _seconds(step, _TRAIN_S, device.type) / size


def _generation_cost(
    trial: TrialSpec, dataset: Dataset, network: nn.Module, generation: Generation
) -> float:
    """Seconds of one generation, from two and more steps of a few images."""
    count = min(_IMAGES, generation.images, trial.evaluation.batch_size)
    steps = min(generation.steps, 4)
    short = generation.model_copy(update={"steps": steps, "images": count})

    def once(number: int) -> None:  # noqa: ARG001
        generate(
            network.eval(), trial.diffusion, dataset, short, range(count), 0, trial.model.classes
        )

    each = _seconds(once, _GENERATE_S, dataset.examples.device.type) / (count * steps)
    return each * generation.images * generation.steps


def _seconds(work: Callable[[int], None], budget_s: float, device: str) -> float:
    """Median seconds of one call, the first one left out."""
    times: list[float] = []
    begun = time.perf_counter()
    number = 0
    while number < 3 or time.perf_counter() - begun < budget_s:
        start = time.perf_counter()
        work(number)
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
