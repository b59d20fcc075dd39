"""How long do a trial's parts take here? Some real steps, a little generation, one comparison, one checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from service.planning.speed import Speed, machine_name
from trainer.compiling import is_compiled, share
from trainer.distributed import World
from trainer.ensemble import Ensemble
from trainer.evaluation.generation import Generation, generate
from trainer.evaluation.measurement import SHOWN, Part
from trainer.evaluation.metric.base import Moments, Real, Statistics
from trainer.evaluation.picture import png
from trainer.evaluation.reference import Gathered
from trainer.memory import ran_out
from trainer.record import Record
from trainer.report import Report
from trainer.training import Training

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.data import Source
    from trainer.evaluation.features import FeatureSpace
    from trainer.evaluation.metric import Metric
    from trainer.trial import TrialSpec

TRAIN_S, GENERATE_S = 0.8, 0.6
"""Measured time spent on each at a time, at most about twice as much."""
_IMAGES = 64
"""Images of a generation that is timed first."""
_COMPARED = 256
"""Images at most that a comparison is timed with."""


def measure(
    trial: TrialSpec, source: Source, cache: Path, device: str, threads: int, together: int = 1
) -> Speed:
    """Every part of a trial, timed in this process; of steps that it takes `together` with others, its share.

    Extractors that are not made yet are made as fast as others.
    """
    with using_threads(threads):
        if trial.train.compile:
            share(cache, torch.device(device))
        training = small_training(trial, source.to(torch.device(device)))
        began = time.perf_counter()  # what the first one imports, a worker has imported
        small_training(trial, training.source)
        start_s = time.perf_counter() - began
        several = [training, *_others(training, together)]
        before = _train_cost(several)
        full = _generation_cost(training, trial.evaluation.full)
        rung = trial.evaluation.rung
        cheap = _generation_cost(training, rung) if rung is not None else None
        spaces, cheap_spaces = trial.evaluation.spaces(), trial.evaluation.spaces("rung")
        looking = [_looking_cost(training, space, "full", cache) for space in spaces]
        cheaply = None
        if cheap_spaces != spaces:
            costs = [_looking_cost(training, space, "rung", cache) for space in cheap_spaces]
            cheaply = sum(one.per_image_s for one in costs)
        keeping = _keeping_cost(training, cache)
        after = _train_cost(several)  # seconds later: a busy machine is never the same twice
    return Speed(
        train_s_per_image=(before + after) / 2,
        full_s=full,
        rung_s=cheap or 0.0,
        features_s_per_image=sum(one.per_image_s for one in looking),
        rung_features_s_per_image=cheaply,
        compare_s=sum(one.fixed_s for one in looking),
        compare_s_per_pair=sum(one.per_pair_s for one in looking),
        real_images=len(source),
        keep_s=keeping[0],
        start_s=start_s,
        checkpoint_bytes=keeping[1],
        report_bytes=keeping[2],
        parameters=sum(parameter.numel() for parameter in training.learner.parameters()),
        device=device,
        machine=machine_name(device),
    )


def small_training(trial: TrialSpec, source: Source) -> Training:
    """The trial's training with batches of one forward pass: larger ones take so many times as long."""
    train = trial.train
    size = min(train.microbatch or train.batch_size, train.batch_size)
    small = train.model_copy(update={"batch_size": size, "microbatch": None})
    return Training(trial.model_copy(update={"train": small}), source, World(0, 1))


def _others(training: Training, together: int) -> list[Training]:
    """Those that share a program with it."""
    seeds = range(training.trial.seed + 1, training.trial.seed + together)
    trials = (training.trial.model_copy(update={"seed": seed}) for seed in seeds)
    return [small_training(trial, training.source) for trial in trials]


def stepping(trial: TrialSpec, source: Source, together: int) -> Callable[[], None]:
    """Takes a step of the trial, with those that share its program; returns after the first."""
    first = small_training(trial, source)
    step, _ = _steps([first, *_others(first, together)])
    step()
    return step


def _steps(several: Sequence[Training]) -> tuple[Callable[[], None], Callable[[], None]]:
    """One batch of each, losses are read as often as in a trial; and what gives each weights of its own again."""
    ensemble = Ensemble(several) if len(several) > 1 else None

    def step() -> None:
        if ensemble is None:
            several[0].step()
        else:
            ensemble.step()
        for training in several:
            training.check()
            if training.at_loss_point:
                training.read_losses()

    return step, (lambda: None) if ensemble is None else ensemble.dissolve


def _train_cost(several: Sequence[Training]) -> float:
    """Seconds per image of real steps that these take together; where there is too little memory, one alone."""
    kind = several[0].source.device.type
    try:
        step, end = _steps(several)
        seconds = _seconds(step, TRAIN_S, kind)
        end()
    except Exception as error:
        if len(several) == 1 or not ran_out(error):
            raise
        return _train_cost(several[:1])
    return seconds / (len(several) * several[0].trial.train.batch_size)


def _generation_cost(training: Training, generation: Generation) -> float:
    """Seconds of one generation, from as much of one as fits into the time: all steps first, then all images."""
    most = min(generation.images, training.trial.evaluation.batch_size)
    few = most if is_compiled(training.average.network) else min(_IMAGES, most)  # a graph a shape
    steps, count = min(generation.steps, 2), few
    kind = training.source.device.type
    each = _seconds(lambda: _generated(training, generation, count, steps), 0.0, kind)
    room = GENERATE_S / each * count * steps
    if room >= count * generation.steps:
        steps, count = generation.steps, max(few, min(most, int(room / generation.steps)))
    else:
        steps = max(steps, int(room / count))
    each = _seconds(lambda: _generated(training, generation, count, steps), GENERATE_S, kind)
    return each / (count * steps) * generation.images * generation.steps


def _generated(training: Training, generation: Generation, count: int, steps: int) -> Tensor:
    short = generation.model_copy(update={"steps": steps, "images": count})
    source = training.source
    return generate(
        training.average.network,
        training.trial.diffusion,
        source.codec,
        short,
        range(count),
        0,
        training.inputs,
        source.device,
    )


@dataclass(frozen=True)
class _Looking:
    """What the comparisons of one feature space take."""

    per_image_s: float
    fixed_s: float
    per_pair_s: float
    """Of what looks at every pair of a generated and a real image."""


def _looking_cost(training: Training, space: FeatureSpace, part: Part, cache: Path) -> _Looking:
    trial, source = training.trial, training.source
    kind, evaluation = source.device.type, trial.evaluation
    metrics: list[Metric] = [
        one for one in evaluation.comparisons if evaluation.space_of(one, part) == space
    ]
    with tempfile.TemporaryDirectory(prefix="diffsweep-") as scratch:
        made = space.is_made(source, cache)
        extractor = (space if made else space.quick()).build(
            source, cache if made else Path(scratch)
        )
    count = min(_COMPARED, evaluation.full.images, evaluation.batch_size)
    images = _generated(training, evaluation.full, count, 1)
    few = images[: min(16, count)]

    def look(x: Tensor) -> Gathered:
        gathered = Gathered(extractor, metrics, len(x), keep=True)
        gathered.add(x)
        return gathered

    if _seconds(lambda: look(few), 0.0, kind) / len(few) * count > 2 * GENERATE_S:
        images = few
    per_image = _seconds(lambda: look(images), GENERATE_S / 3, kind) / len(images)
    seen = look(images).of_all(World(0, 1))
    fixed = per_pair = 0.0
    many, known = _as_many(seen, evaluation.full.images), _as_many(seen, len(source))
    for metric in metrics:
        if metric.looks_at_pairs:
            met, real = seen, Real(metric.prepare(seen), seen.features)
        else:
            met, real = many, Real(metric.prepare(known), known.features)
        seconds = _seconds(lambda: metric.measure(met, real), 0.0, kind)  # noqa: B023
        if metric.looks_at_pairs:
            per_pair += seconds / len(images) ** 2
        else:
            fixed += seconds
    return _Looking(per_image, fixed, per_pair)


def _as_many(seen: Statistics, count: int) -> Statistics:
    """The same images again and again until there are `count`, or more than dimensions: fewer are compared faster."""
    rows = seen.kept()
    times = -(-min(count, rows.shape[1] + 1) // len(rows))
    if times <= 1:
        return seen
    sums = seen.moments
    moments = Moments(times * sums.count, times * sums.total, times * sums.outer)
    return Statistics(moments, rows.repeat(times, 1), seen.classify)


def _keeping_cost(training: Training, cache: Path) -> tuple[float, int, int]:
    """Seconds to write what an evaluation leaves behind, and bytes of its checkpoint, of its report and picture."""
    evaluation = training.trial.evaluation
    shown = SHOWN["full" if evaluation.rung is None else "rung"]
    images = _generated(training, evaluation.full, min(shown, evaluation.full.images), 1)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".calibration-", dir=cache) as scratch:
        record = Record(Path(scratch) / "trial")
        told = training.learner.tally.read()
        report = Report(images=1, time_s=0.0, metrics={}, levels=told)

        def keep() -> None:
            record.write_sample(1, png(images))
            record.add_report(report)
            record.save_checkpoint(1, training.state(), keep=1)

        seconds = _seconds(keep, 0.0, training.source.device.type)
        checkpoint, picture = (
            sum(file.stat().st_size for file in record.directory.glob(f"{part}*/*"))
            for part in ("checkpoint-", "samples")
        )
    return seconds, checkpoint, picture + len(report.to_json())


def _seconds(work: Callable[[], object], budget_s: float, device: str) -> float:
    """Mean seconds of one call, the first one left out: what is slow now and then counts, as it will in the trial."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < budget_s:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sum(times[1:]) / len(times[1:])


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """As many threads as a worker gets."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
