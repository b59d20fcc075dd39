"""What does an evaluation find of a training? Every protocol that is due, at the end every average, and the seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.distributed import World
from trainer.evaluation.averages import of_average
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.measurement import Measurement, Part
from trainer.training import Training
from trainer.trial import TrialSpec


@dataclass(frozen=True)
class Measured:
    """What an evaluation found; nothing where there was none."""

    metrics: dict[str, float] = field(default_factory=dict)
    protocol: dict[str, str] = field(default_factory=dict)
    draws: dict[str, list[float]] = field(default_factory=dict)
    """Of the metrics that have several."""
    samples: Tensor = field(default_factory=lambda: torch.empty(0))
    failure: str | None = None


def measure(training: Training, evaluator: Evaluator, world: World) -> Measured:
    """All protocols that are due now, at the end of every average, with the seconds they took."""
    began = time.perf_counter()
    parts = _due(training.trial, training.images)
    measured = [evaluator.measure(training.average.network, part, world) for part in parts]
    shown = measured[-1].samples
    further: list[Measurement] = []
    if training.images == training.trial.total_images() and all(one.finite for one in measured):
        further = evaluator.measure_also(training.average.network, world)
        measured += [
            of_average(evaluator.measure(one.network, "full", world), one.spec.called())
            for one in training.further
        ]
    finite = all(one.finite for one in measured)
    measured += (
        further  # a solver that goes astray says nothing of the training: its numbers are NaN
    )
    metrics = {n: value for one in measured for n, value in (one.metrics | one.errors).items()}
    protocol = {name: value for one in measured for name, value in one.protocol.items()}
    draws = {name: each for one in measured for name, each in one.draws.items() if len(each) > 1}
    metrics["sys/eval_s"] = time.perf_counter() - began
    training.progress.eval_seconds += metrics["sys/eval_s"]
    kimg = training.images / 1000
    failure = f"diverged: generated samples are not finite at {kimg:g} kimg"
    return Measured(metrics, protocol, draws, shown, None if finite else failure)


def _due(trial: TrialSpec, images: int) -> list[Part]:
    """Protocols to measure now: the cheap curve always, the full one at the end or if it is the only one."""
    if trial.evaluation.rung is None:
        return ["full"]
    return ["rung", "full"] if images == trial.total_images() else ["rung"]
