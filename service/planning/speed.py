"""What does a worker do in how much time, and on which machine?"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from trainer.lazily import torch

if TYPE_CHECKING:
    from trainer.evaluation.generation import Generation
    from trainer.evaluation.protocol import Evaluation
    from trainer.trial import TrialSpec


@dataclass(frozen=True)
class Speed:
    """What one worker does in how much time, beside as many others as run at once."""

    train_s_per_image: float
    full_s: float
    """To generate the images of one draw of the full protocol."""
    rung_s: float
    parameters: int
    device: str
    features_s_per_image: float = 0.0
    """Of all extractors together."""
    rung_features_s_per_image: float | None = None
    """The same of the curve's cheap protocol, where its extractors are others; None: they are the same."""
    compare_s: float = 0.0
    """Of all comparisons of one draw."""
    compare_s_per_pair: float = 0.0
    """Of those that look at every pair of a generated and a real image."""
    real_images: int = 0
    """That there are to compare with."""
    keep_s: float = 0.0
    """To write down an evaluation: checkpoint and picture."""
    start_s: float = 0.0
    """To set the training up, in a process that runs."""
    checkpoint_bytes: int = 0
    report_bytes: int = 0
    """Of an evaluation's report and picture."""
    machine: str = ""
    """What it was measured on, for a person: `NVIDIA H100 of node-3`."""

    def seconds(self, trial: TrialSpec, workers: int, start_images: int = 0) -> tuple[float, float]:
        """(training, evaluation) wall seconds of what is left of a trial after `start_images`."""
        evaluation = trial.evaluation
        left = [point for point in trial.evaluation_points() if point > start_images]
        images = trial.total_images() - start_images
        full_s = self._draw(self.full_s, evaluation.full) * evaluation.draws
        if evaluation.rung is not None:
            cheap = self.rung_features_s_per_image
            cost = self._draw(self.rung_s, evaluation.rung, cheap) * len(left) + full_s
        else:
            cost = full_s * len(left)
        cost += full_s * (len(trial.averages()) - 1)
        cost += evaluation.error_groups * self._comparing(evaluation.full)
        for path, also in evaluation.generations():
            if path not in ("full", "rung"):
                generating = self.full_s * _work(also) / _work(evaluation.full)
                cost += self._draw(generating, also) * evaluation.draws
        cost += self._asking(trial, len(left))
        return images * self.train_s_per_image / workers, cost / workers

    def _draw(
        self, generating_s: float, generation: Generation, look_s: float | None = None
    ) -> float:
        """One set of images, looked at (in `look_s` each, if not as usual) and compared."""
        looking = generation.images * (self.features_s_per_image if look_s is None else look_s)
        return generating_s + looking + self._comparing(generation)

    def _comparing(self, generation: Generation) -> float:
        return self.compare_s + self.compare_s_per_pair * generation.images * self.real_images

    def scaled(self, was: Evaluation, now: Evaluation) -> Speed:
        """The same for another number of images and steps."""
        full_s = self.full_s * _work(now.full) / _work(was.full)
        rung_s = self.rung_s
        if was.rung is not None and now.rung is not None:
            rung_s *= _work(now.rung) / _work(was.rung)
        return replace(self, full_s=full_s, rung_s=rung_s)

    def holding(self, trial: TrialSpec, start_images: int = 0) -> float:
        """Seconds beyond training and evaluation: setting up, and writing down every evaluation that is left."""
        left = [point for point in trial.evaluation_points() if point > start_images]
        return self.start_s + self.keep_s * len(left)

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


@functools.cache
def machine(device: str) -> list[str]:
    """What makes steps take the time they take."""
    known = [platform.node(), platform.machine(), str(os.cpu_count()), version("torch"), device]
    return [*known, torch.cuda.get_device_name()] if device == "cuda" else known


def machine_digest(device: str) -> str:
    """This machine, in names of files."""
    return digest(machine(device))


def machine_name(device: str) -> str:
    """This machine, for a person."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()} of {platform.node()}"
    return f"CPU of {platform.node()}"


def digest(value: Any) -> str:
    """16 hex digits of JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
