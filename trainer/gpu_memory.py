"""How much of a GPU's memory does a worker of a trial take at its largest? Measured on one, in seconds."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.compiling import share
from trainer.data import held_out_source
from trainer.distributed import World
from trainer.evaluation.evaluator import Evaluator
from trainer.memory import release
from trainer.replayed import BEFORE
from trainer.training import Training

if TYPE_CHECKING:
    from trainer.data import Source
    from trainer.evaluation.protocol import Evaluation
    from trainer.trial import TrialSpec

_BATCHES = BEFORE + 2
"""Moments of the optimizer are there, and a graph that takes the step."""
_STEPS = 3
"""Of a solver or an ODE: a step keeps no more than the one before."""


def most_bytes(
    trial: TrialSpec,
    source: Source,
    device: torch.device,
    *,
    cache: Path,
    data_root: Path = Path(),
    workers: int = 1,
) -> int:
    """Bytes that one of `workers` takes: the most that torch reserves, and what CUDA itself needs for a process.

    `device` is a CUDA device that nobody else uses: what others hold of it counts. Features of real images are made
    on the way, where the cache lacks them. Raises ValueError for a device that does not tell.
    """
    if device.type != "cuda":
        raise ValueError(f"memory is measured on a GPU, not on {device}")
    gc.collect()
    release(device)
    torch.cuda.reset_peak_memory_stats(device)
    more = exercise(trial, source.to(device), cache=cache, data_root=data_root, workers=workers)
    torch.cuda.synchronize(device)
    reserved = torch.cuda.max_memory_reserved(device)
    free, total = torch.cuda.mem_get_info(device)
    context = total - free - torch.cuda.memory_reserved(device)
    return int(reserved + context + more)


def exercise(
    trial: TrialSpec, source: Source, *, cache: Path, data_root: Path = Path(), workers: int = 1
) -> int:
    """Do once what takes the most: batches in the trial's own passes, then a batch of an evaluation.

    Returns bytes that a whole trial takes besides: features of all images that it generates, and the buckets in
    which several workers add up their gradients.
    """
    if trial.train.compile:
        share(cache, source.device)
    training = Training(_short(trial, workers), source, World(0, 1))
    for _ in range(_BATCHES):
        training.step()
    training.read_losses()
    evaluation = _small(trial.evaluation)
    held_out = None
    if evaluation.looks_at_test:
        held_out = held_out_source(trial.data, source.codec, data_root, cache, source.device)
    evaluator = Evaluator(evaluation, training.diffusion, source, cache, training.inputs, held_out)
    evaluator.measure(training.average.network, "full", World(0, 1))
    buckets = 4 * sum(one.numel() for one in training.learner.parameters() if one.requires_grad)
    return _features(trial, evaluation.full.images, source.codec.shape) + buckets * (workers > 1)


def _short(trial: TrialSpec, workers: int) -> TrialSpec:
    """With no more passes than two: gradients of the first one are there while the second one is computed."""
    share = trial.train.batch_size // workers
    one_pass = min(trial.train.microbatch or share, share)
    short = trial.train.model_copy(update={"batch_size": min(share, 2 * one_pass)})
    return trial.model_copy(update={"train": short})


def _small(evaluation: Evaluation) -> Evaluation:
    """One batch of images under the full protocol; likelihoods that are as large as an ODE's."""
    images = min(evaluation.full.images, evaluation.batch_size)
    steps = min(evaluation.full.steps, _STEPS)
    metrics = [
        one.model_copy(update={"steps": _STEPS, "images": images}) if one.kind == "nll" else one
        for one in evaluation.metrics
        if one in evaluation.comparisons or one.kind == "nll"
    ]
    small = evaluation.full.model_copy(update={"images": images, "steps": steps})
    changes = {"full": small, "rung": None, "draws": 1, "also": (), "metrics": tuple(metrics)}
    return evaluation.model_copy(update=changes)


def _features(trial: TrialSpec, seen: int, shape: tuple[int, ...]) -> int:
    """Bytes of the features that metrics keep of all generated images but those that were seen."""
    evaluation, total = trial.evaluation, 0
    for space in evaluation.spaces():
        asked = [one for one in evaluation.comparisons if evaluation.space_of(one) == space]
        if evaluation.error_groups or any(one.needs != "moments" for one in asked):
            total += 4 * (evaluation.full.images - seen) * (space.dimensions(shape) or 0)
    return total
