"""How is a trial trained? One loop, a generator of reports: no callbacks, no hidden state.

Kill it anywhere and call it again with the same directory: it continues from the newest whole
checkpoint, and everything it yields is equal, to the last bit, to a run that was never interrupted.
"""

import contextlib
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import torch

from trainer.checkpoint import forget_after
from trainer.compiling import share
from trainer.data import held_out_source
from trainer.distributed import World, best_device
from trainer.errors import CheckpointError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.picture import png
from trainer.footprint import too_large, too_many_at_once
from trainer.growing import begin
from trainer.keeper import Due, Keeper
from trainer.leaving import Leaving, Left, Told
from trainer.measured import Measured, measure
from trainer.memory import told
from trainer.passes import Kept, OnOOM, Passes, SmallerPasses
from trainer.pulse import Heart
from trainer.record import Record
from trainer.report import Report
from trainer.training import Training
from trainer.trial import TrialSpec


def train(
    trial: TrialSpec,
    directory: Path,
    *,
    cache: Path,
    data_root: Path = Path(),
    device: str = "auto",
    checkpoint_every_s: float = 10.0,
    until_images: int | None = None,
    on_oom: OnOOM = "halve_microbatch",
    leave: Told = lambda: False,
) -> Iterator[Report]:
    """Train `trial` in `directory`, yielding a report at each evaluation point; the last has `done`.

    A checkpoint is written with every report, and between reports after `checkpoint_every_s` seconds or fifty
    times what writing one took, whichever is longer. `until_images` ends the loop with the first report at or
    beyond it, without a result: called again, it continues.
    Where memory runs out in a step, `halve_microbatch` repeats it in smaller passes, and goes on with those. Once
    `leave` says so, a checkpoint is written after the step at work, or the evaluation, and Left is raised.
    Under torch.distributed every worker calls this and yields the same images; rank 0 writes the files.
    Raises UserError when batch and workers do not divide, or the data is unfit; TooLittleMemory says what to lower.
    """
    steps = stepwise(
        trial,
        directory,
        cache=cache,
        data_root=data_root,
        device=device,
        due=Due(checkpoint_every_s),
        until_images=until_images,
        on_oom=on_oom,
        leave=leave,
    )
    with contextlib.closing(steps):
        for told in steps:
            if isinstance(told, Report):
                yield told
            else:
                told.attempt()


Ended = TypeVar("Ended")
Stepwise = Generator["Training | Report", None, None]
"""A training whose steps whoever listens attempts: it is told whenever one is due, and goes on when it was taken."""


def attempted(steps: Generator[Training, None, Ended]) -> Ended:
    """What they come to, where each step is attempted as soon as it is due."""
    while True:
        try:
            next(steps).attempt()
        except StopIteration as end:
            found: Ended = end.value
            return found


def stepwise(
    trial: TrialSpec,
    directory: Path,
    *,
    cache: Path,
    data_root: Path = Path(),
    device: str = "auto",
    due: Due | None = None,
    even_at: int | None = None,
    until_images: int | None = None,
    on_oom: OnOOM = "halve_microbatch",
    leave: Told = lambda: False,
) -> Stepwise:
    """As `train`, which attempts each step where it is due.

    Trainings that step together share `due`, and begin again where they were even (`checkpoint.even`).
    """
    # What there is: the data, the training, how far an earlier attempt came
    world, on = World.current(), best_device(device)
    torch.backends.cudnn.deterministic = True  # a kernel chosen by the clock would not resume
    if trial.train.compile:
        share(cache, on)
    source = trial.data.load(data_root, cache).to(on)
    record, smaller = Record(directory), Kept.of(directory)
    record.refuse_another(trial)
    passes = Passes(trial, world, smaller.microbatch if smaller else None, on_oom)
    with told(lambda: too_large(trial, source)):
        training = Training(trial, source, world, passes)
        evaluator = _evaluator(training, cache, data_root)
        notes = _resume(training, record, evaluator, even_at)
    _agree(world, training.images, on)
    if world.first:
        record.begin(trial, training.images)
    world.barrier()
    keeper = Keeper(record, training, evaluator, due or Due(10.0))
    heart = Heart(directory, trial.total_images(), silent=not world.first)
    leaving = Leaving(world, leave)
    if training.images == trial.total_images():
        yield _finished(record, keeper, world)

    with heart:
        training.go_on()
        left = _points(trial, training.images, until_images)
        for point in left:
            heart.go_on(training.images)
            failure = yield from _train_to(point, training, keeper, heart, leaving)
            training.pause()
            report = _measured(training, evaluator, record, failure, notes, keeper)
            if world.first:
                keeper.keep(report)
            if report.done or point == left[-1]:
                heart.stop()
            world.barrier()
            yield report
            if report.done:
                return
            notes = []
            training.go_on()


def _train_to(
    point: int, training: Training, keeper: Keeper, heart: Heart, leaving: Leaving
) -> Generator[Training, None, str | None]:
    """Train up to the next evaluation; on the way read the loss curve and keep checkpoints. Why it diverged, if so."""
    failure = None
    while training.images < point and failure is None:
        yield training
        try:
            training.check()
        except SmallerPasses as found:
            keeper.keep_smaller(found)
            raise
        keeper.stepped()
        if training.world.first and (copies := training.due_snapshots()):
            keeper.save_snapshots(copies)
        if training.at_loss_point or training.images == point:
            failure = training.read_losses()
            heart.beat(training.images, training.progress.series, training.images == point)
            if training.world.first and failure is None and training.images < point:
                keeper.save_if_due()
        if training.images < point and failure is None and leaving.now():
            keeper.save_now()
            raise Left(training.images)
    return failure


def _measured(
    training: Training,
    evaluator: Evaluator,
    record: Record,
    failure: str | None,
    notes: list[str],
    keeper: Keeper,
) -> Report:
    """What is told at this evaluation, of the average of the weights, with the loss curve since the last one."""
    trial, images, world = training.trial, training.images, training.world
    series = training.progress.series
    metrics = {"sys/img_per_s": training.img_per_s()} | (dict(series[-1][1]) if series else {})
    measured = Measured(failure=failure)
    if failure is None:
        with told(lambda: too_many_at_once(trial, training.source)):
            measured = training.with_room(lambda: measure(training, evaluator, world))
    picture = None
    if measured.failure is None and world.first:
        picture = record.write_sample(images, png(measured.samples))
    training.progress.series = []
    return Report(
        images=images,
        time_s=time.time(),
        metrics=metrics | measured.metrics,
        series=series,
        sample_png=picture,
        done=measured.failure is not None or images == trial.total_images(),
        failure=measured.failure,
        notes=[*notes, *keeper.told_smaller()],
        protocol=measured.protocol,
        draws=measured.draws,
        levels=training.learner.tally.read(),
    )


def _evaluator(training: Training, cache: Path, data_root: Path) -> Evaluator:
    """What measures the training, with the test split where something looks at it."""
    trial, source, held_out = training.trial, training.source, None
    if trial.evaluation.looks_at_test:
        held_out = held_out_source(trial.data, source.codec, data_root, cache, source.device)
    return Evaluator(trial.evaluation, training.diffusion, source, cache, training.inputs, held_out)


def _resume(
    training: Training, record: Record, evaluator: Evaluator, even_at: int | None
) -> list[str]:
    """Continue from the newest whole checkpoint, if there is one; returns what a person should know."""
    state, notes = record.newest_state(training.source.device, even_at)
    if state is not None:
        if state.get("held_out") != evaluator.held_out:
            raise CheckpointError(
                "the checkpoint was measured on another test split: bring that back, or choose another directory"
            )
        training.restore(state)
        if training.images == even_at:
            forget_after(record.directory, even_at)
        return notes
    remarks = [line for one in training.inputs for line in one.remarks(training.source)]
    return [*notes, *begin(training), *remarks]


def _points(trial: TrialSpec, images: int, until_images: int | None) -> list[int]:
    """Images of the evaluations to come; the first at or beyond `until_images` is the last."""
    every = trial.evaluation_points()
    left = [point for point in every if point > images]
    if until_images is None:
        return left
    if any(until_images <= point <= images for point in every):
        return []
    return left[: sum(point < until_images for point in left) + 1]


def _agree(world: World, images: int, device: torch.device) -> None:
    """Raise CheckpointError unless every worker continues from the same checkpoint."""
    images_of_all = world.gather(torch.tensor([images], device=device)).tolist()
    if len(set(images_of_all)) > 1:
        raise CheckpointError(
            f"the workers found different checkpoints (at {images_of_all} images): the trial's directory must be on "
            "storage that every node sees; set DIFFSWEEP_HOME to such a folder"
        )


def _finished(record: Record, keeper: Keeper, world: World) -> Report:
    """The last report of a training that was killed just before its result, which is written now."""
    reports = record.reports()
    if not reports or not reports[-1].done:
        raise CheckpointError(
            f"{record.directory} has its last checkpoint but not its last report: remove the newest checkpoint-* "
            "there, and the same command repeats the end"
        )
    if world.first:
        keeper.finish(reports[-1])
    world.barrier()
    return reports[-1]
