"""How is a trial trained? One loop, a generator of reports: no callbacks, no hidden state.

Kill it anywhere and call it again with the same directory: it continues from the newest whole
checkpoint, and everything it yields is equal, to the last bit, to a run that was never interrupted.
"""

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.data import Batches
from trainer.distributed import World, best_device
from trainer.ema import Average
from trainer.errors import CheckpointError, UserError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.picture import png
from trainer.learner import Learner
from trainer.randomness import derive
from trainer.record import KEEP, Record
from trainer.report import Report, Result
from trainer.trial import TrialSpec


@dataclass
class _Progress:
    """What a checkpoint holds besides tensors."""

    images: int = 0
    started_s: float = field(default_factory=time.time)
    """Unix time of the first training step."""
    seconds: float = 0.0
    eval_seconds: float = 0.0
    window: list[float] = field(default_factory=list)
    """Batch losses since the last point of the loss curve."""
    series: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Points of the loss curve since the last report."""


def train(
    trial: TrialSpec,
    directory: Path,
    *,
    cache: Path,
    data_root: Path = Path(),
    device: str = "auto",
    checkpoint_every_s: float = 10.0,
) -> Iterator[Report]:
    """Train `trial` in `directory`, yielding a report at each evaluation point; the last has `done`.

    A checkpoint is written with every report, and between reports after `checkpoint_every_s` seconds or fifty
    times what writing one took, whichever is longer.
    Under torch.distributed every worker calls this and yields the same images; rank 0 writes the files.
    Raises UserError when batch, workers and microbatch do not divide, or the data is unfit.
    """
    world, on = World.current(), best_device(device)
    share, slices = _slices(trial, world)
    torch.backends.cudnn.deterministic = (
        True  # a kernel chosen by the clock would break exact resuming
    )
    dataset = trial.data.load(data_root).to(on)
    learner = Learner(trial, dataset).to(on)
    average = Average(trial.ema, learner.network, copy.deepcopy(learner.network))
    optimizer = trial.optimizer.build(learner, undecayed=learner.schedule)
    clipped = learner.clipped()
    evaluator = Evaluator(trial.evaluation, learner.diffusion, dataset, cache, trial.model.classes)
    record = Record(directory)
    record.refuse_another(trial)

    saved, notes = record.newest_state(on)
    progress = _restore(saved, learner, average, optimizer) if saved else _Progress()
    _agree(world, progress.images, on)
    if world.first:
        record.begin(trial, progress.images)
    world.barrier()

    batches = Batches(dataset, trial.seed)
    if trial.train.compile:
        learner.network.compile()
    shared = DistributedDataParallel(learner) if world.size > 1 else None
    forward = shared or learner
    autocast = torch.autocast(on.type, torch.bfloat16, enabled=trial.train.precision == "bf16")
    batch_size, total = trial.train.batch_size, trial.total_images()
    points = [point for point in trial.evaluation_points() if point > progress.images]
    log_every = _log_every(trial)
    dropout, labelled = _has_dropout(learner), trial.model.classes is not None
    pending: list[Tensor] = []
    failure: str | None = None
    if not points:  # killed after the last checkpoint, before the result
        report = _last_report(record)
        if world.first:
            record.write_result(_result(report, progress, evaluator, learner))
        world.barrier()
        yield report
    mark = time.perf_counter()
    save_due = mark + checkpoint_every_s
    mark_images, spent = progress.images, 0.0

    while points:
        step = progress.images // batch_size
        first = progress.images + world.rank * share
        if dropout:
            torch.manual_seed(derive(trial.seed, f"train/dropout/{first}"))
        rate = trial.optimizer.lr * trial.optimizer.lr_schedule.factor(
            progress.images + batch_size, total
        )
        for group in optimizer.param_groups:
            _set_rate(group, rate)
        batch_loss = torch.zeros((), device=on)
        for i, (start, count) in enumerate(slices):
            index = torch.arange(first + start, first + start + count, device=on)
            x0 = batches.get(first + start, count)
            labels = batches.labels(first + start, count) if labelled else None
            partial = shared is not None and i < len(slices) - 1
            with shared.no_sync() if shared and partial else contextlib.nullcontext():
                with autocast:
                    loss = forward(x0, index, labels).sum() / share
                loss.backward()
            batch_loss += loss.detach()
        if trial.optimizer.grad_clip is not None:
            for together in clipped:
                nn.utils.clip_grad_norm_(together, trial.optimizer.grad_clip, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        learner.observe(world)
        average.update()
        pending.append(batch_loss)
        progress.images = (step + 1) * batch_size

        if progress.images % log_every and progress.images != points[0]:
            continue
        progress.window += _losses(pending, world)
        pending.clear()
        if progress.images % log_every == 0 or progress.images == total:
            mean = sum(progress.window) / len(progress.window)
            progress.window.clear()
            progress.series.append((progress.images, {"train/loss": mean} | learner.metrics()))
            if not math.isfinite(mean):
                failure = (
                    f"diverged: the training loss is {mean} at {progress.images / 1000:g} kimg"
                )
        if failure is None and progress.images != points[0]:
            if world.first and (began := time.perf_counter()) > save_due:
                spent += began - mark
                progress.seconds += began - mark
                mark = began
                record.save_checkpoint(
                    progress.images, _state(progress, learner, average, optimizer)
                )
                written = time.perf_counter()
                save_due = written + max(checkpoint_every_s, 50.0 * (written - began))
            continue

        elapsed = time.perf_counter() - mark
        progress.seconds += elapsed
        metrics = {"sys/img_per_s": (progress.images - mark_images) / (spent + elapsed)}
        metrics |= progress.series[-1][1] if progress.series else {}
        picture = None
        if failure is None:
            clock = time.perf_counter()
            measured = [
                evaluator.measure(average.network, name, world) for name in _due(trial, progress)
            ]
            for measurement in measured:
                metrics |= measurement.metrics
            if not all(measurement.finite for measurement in measured):
                failure = (
                    f"diverged: generated samples are not finite at {progress.images / 1000:g} kimg"
                )
            elif world.first:
                picture = record.write_sample(progress.images, png(measured[-1].samples))
            metrics["sys/eval_s"] = time.perf_counter() - clock
            progress.eval_seconds += metrics["sys/eval_s"]
        done = failure is not None or progress.images == total
        report = Report(
            progress.images, time.time(), metrics, progress.series, picture, done, failure, notes
        )
        progress.series = []
        if world.first:
            record.add_report(report)
            if failure is None:  # what diverged must not be continued from
                state = _state(progress, learner, average, optimizer)
                record.save_checkpoint(progress.images, state, keep=1 if done else KEEP)
            if done:
                record.write_result(_result(report, progress, evaluator, learner))
        world.barrier()
        yield report
        points = [] if done else points[1:]
        notes = []
        mark = time.perf_counter()
        save_due = max(save_due, mark + checkpoint_every_s)
        mark_images, spent = progress.images, 0.0


def _agree(world: World, images: int, device: torch.device) -> None:
    """Raise CheckpointError unless every worker continues from the same checkpoint."""
    found = world.gather(torch.tensor([images], device=device)).tolist()
    if len(set(found)) > 1:
        raise CheckpointError(
            f"the workers found different checkpoints (at {found} images): the trial's directory must be on "
            "storage that every node sees; set DIFFSWEEP_HOME to such a folder"
        )


def _last_report(record: Record) -> Report:
    reports = record.reports()
    if not reports or not reports[-1].done:
        raise CheckpointError(
            f"{record.directory} has its last checkpoint but not its last report: remove the newest checkpoint-* "
            "there, and the same command repeats the end"
        )
    return reports[-1]


def _slices(trial: TrialSpec, world: World) -> tuple[int, list[tuple[int, int]]]:
    """This worker's share of a batch, cut into (start, count) forward passes."""
    batch = trial.train.batch_size
    if batch % world.size:
        raise UserError(
            f"train.batch_size: {batch} cannot be shared by {world.size} workers: use a multiple of {world.size}"
        )
    share = batch // world.size
    micro = min(trial.train.microbatch or share, share)
    return share, [(start, min(micro, share - start)) for start in range(0, share, micro)]


def _due(trial: TrialSpec, progress: _Progress) -> list[Literal["full", "rung"]]:
    """Protocols to measure now: the cheap curve always, the full one at the end or if it is the only one."""
    if trial.evaluation.rung is None:
        return ["full"]
    return ["rung", "full"] if progress.images == trial.total_images() else ["rung"]


def _log_every(trial: TrialSpec) -> int:
    """Images between points of the loss curve, a multiple of the batch."""
    batch, total = trial.train.batch_size, trial.total_images()
    wanted = 1000 * trial.train.log_every_kimg if trial.train.log_every_kimg else total / 100
    return max(1, round(wanted / batch)) * batch


def _losses(pending: list[Tensor], world: World) -> list[float]:
    """Batch losses averaged over workers; the only point at which the host waits for the device."""
    if not pending:
        return []
    stacked = torch.stack(pending)
    world.sum_(stacked)
    return [float(value) / world.size for value in stacked.tolist()]


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _has_dropout(network: nn.Module) -> bool:
    return any(isinstance(m, nn.Dropout) and m.p > 0.0 for m in network.modules())


def _state(
    progress: _Progress, learner: Learner, average: Average, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    return {
        "progress": vars(progress),
        "learner": learner.state_dict(),
        "average": average.network.state_dict(),
        "updates": average.updates,
        "optimizer": optimizer.state_dict(),
    }


def _restore(
    saved: dict[str, Any], learner: Learner, average: Average, optimizer: torch.optim.Optimizer
) -> _Progress:
    learner.load_state_dict(saved["learner"])
    average.network.load_state_dict(saved["average"])
    average.updates = saved["updates"]
    optimizer.load_state_dict(saved["optimizer"])
    return _Progress(**saved["progress"])


def _result(report: Report, progress: _Progress, evaluator: Evaluator, learner: Learner) -> Result:
    return Result(
        status="finished" if report.failure is None else "diverged",
        reason=report.failure,
        images=report.images,
        started_s=progress.started_s,
        metrics=report.metrics,
        seconds=progress.seconds,
        eval_seconds=progress.eval_seconds,
        protocol=evaluator.protocols(),
        parameters=sum(p.numel() for p in learner.parameters()),
    )
