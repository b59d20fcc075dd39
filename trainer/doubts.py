"""What does a trial say that it hardly means? Settings that are possible, and leave a part of it without effect."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainer.diffusion.solver import DPMAdaptive
from trainer.ema import EMA, InversePower, Ramp
from trainer.evaluation.metric.likelihood import NLL

if TYPE_CHECKING:
    from trainer.trial import TrialSpec

_SAMPLES = 500
"""Updates at most that are looked at, evenly spaced."""
_MUCH = 0.1
"""Share of the initial weights in an average that is worth a sentence."""
_IDLE = 0.01
"""Mean factor of a learning rate below which the updates hardly move anything."""
_FEW = 20
"""Updates below which nobody looks at a mean."""
_HIDDEN = 0.01, 0.9
"""Shares of examples whose labels are hidden, between which a network learns both with them and without."""
_STRONG = 50.0
"""Guidance beyond what anybody publishes: 10 is much."""
_FLOW = 6.0
"""log-SNR from data to noise, of which a likelihood needs 18."""


def doubts(trial: TrialSpec) -> list[str]:
    """Sentences with the path, what becomes of it and the way out; none where nothing needs saying."""
    return [*_averages(trial), *_rate(trial), *_conditions(trial), *_curve(trial), *_walks(trial)]


def _averages(trial: TrialSpec) -> Iterator[str]:
    steps = trial.steps()
    if steps < _FEW or trial.start_from is not None:  # trained weights need not be forgotten
        return
    for number, average in enumerate(trial.averages()):
        where = f"ema[{number}]" if isinstance(trial.ema, tuple) else "ema"
        share = initial_share(average, steps)
        if share > _MUCH:
            ramp = "" if isinstance(average, Ramp) else ", or kind: ramp"
            yield (
                f"{where}: {_percent(share)} of what is evaluated after {steps:,} updates are the initial weights, "
                f"which the average keeps for long: write a smaller decay, such as {1.0 - 10.0 / steps:.6g}{ramp}"
            )
        elif isinstance(average, InversePower) and average.start >= steps:
            yield (
                f"{where}.start: the decay begins to rise after {average.start:,} updates, the trial has {steps:,}: it "
                f"stays {average.least:g}; write a smaller start"
            )


def initial_share(average: EMA, steps: int) -> float:
    """How much of the average after so many updates is what it began with: the product of all decays."""
    stride = max(1, steps // _SAMPLES)
    left = 1.0
    for update in range(1, steps + 1, stride):
        left *= average.at(update) ** min(stride, steps + 1 - update)
        if left < _MUCH:
            break
    return left


def _rate(trial: TrialSpec) -> Iterator[str]:
    schedule, steps = trial.optimizer.lr_schedule, trial.steps()
    total, batch = trial.total_images(), trial.train.batch_size
    stride = max(1, steps // _SAMPLES)
    factors = [schedule.factor(i * batch, total, batch) for i in range(0, steps, stride)]
    where = "optimizer.lr_schedule"
    if 1000.0 * schedule.warmup_kimg >= total and steps > 1:
        yield (
            f"{where}.warmup_kimg: a warm-up of {schedule.warmup_kimg:,g} kimg takes the whole budget of "
            f"{total / 1000:,g}: the learning rate reaches {_percent(max(factors))} of optimizer.lr; write a shorter "
            "one, or raise train.kimg"
        )
    elif steps >= _FEW and (mean := math.fsum(factors) / len(factors)) < max(_IDLE, 2.0 / steps):
        yield (
            f"{where}: its mean over the budget is {_percent(mean)} of optimizer.lr, so that hardly an update moves "
            "anything: let it fall more slowly"
        )


def _conditions(trial: TrialSpec) -> Iterator[str]:
    """Labels or tags that are hardly shown or hardly hidden, and guidance that leaves the data."""
    least, most = _HIDDEN
    guided = [(n, g.guidance) for n, g in trial.evaluation.generations() if g.guidance is not None]
    for hiding in filter(None, (one.hiding() for one in trial.network_inputs())):
        if hiding.share > most:
            yield (
                f"{hiding.path}: {_percent(hiding.share)} of the examples are shown without {hiding.what}, so that "
                "the network hardly learns what it means: 0.1 is usual"
            )
        elif guided and hiding.share < least:
            yield (
                f"{hiding.path}: {_percent(hiding.share)} of the examples are shown without {hiding.what}, and "
                f"evaluation.{guided[0][0]}.guidance compares with a network that learned from them: 0.1 is usual"
            )
    for name, guidance in guided:
        if guidance.scale > _STRONG:
            yield (
                f"evaluation.{name}.guidance.scale: {guidance.scale:g} goes so many times further than the network "
                "says, where no data are: 0.5 to 10 are usual"
            )


def _curve(trial: TrialSpec) -> Iterator[str]:
    """A curve of fewer points than are asked for, and a cheap protocol that is none."""
    evaluation, points = trial.evaluation, len(trial.evaluation_points())
    if evaluation.every_kimg is None and points < evaluation.evaluations:
        yield (
            f"evaluation.evaluations: {evaluation.evaluations:,} are {points:,}, as the budget has {trial.steps():,} "
            "steps and two cannot share one: write fewer, or raise train.kimg"
        )
    full, rung = evaluation.full, evaluation.rung
    if rung is None or full.solver.adaptive or rung.solver.adaptive:
        return
    cheap, whole = (g.images * g.solver.evaluations(g.steps) for g in (rung, full))
    if cheap > whole * evaluation.draws:
        yield (
            f"evaluation.rung: the cheap protocol of the curve makes {cheap:,} passes of an image at every point, the "
            f"reported one {whole * evaluation.draws:,} at the end: write fewer images or steps, or leave `rung` out"
        )


def _walks(trial: TrialSpec) -> Iterator[str]:
    """Adaptive steps that nothing bounds, and a likelihood over hardly any noise levels."""
    for name, generation in trial.evaluation.generations():
        solver, where = generation.solver, f"evaluation.{name}.solver"
        if isinstance(solver, DPMAdaptive) and solver.first_step > solver.max_step:
            yield (
                f"{where}.first_step: {solver.first_step:g} exceeds max_step: {solver.max_step:g}, which is taken: "
                "lower it, or raise max_step"
            )
        if isinstance(solver, DPMAdaptive) and solver.rtol >= 1.0:
            yield (
                f"{where}.rtol: {solver.rtol:g} allows an error as large as the images, so that any step is taken: "
                "0.05 is usual"
            )
    for metric in trial.evaluation.metrics:
        if isinstance(metric, NLL) and metric.log_snr_max - metric.log_snr_min < _FLOW:
            yield (
                f"evaluation.metrics: nll goes from log-SNR {metric.log_snr_max:g} to {metric.log_snr_min:g} alone, so "
                "that the network hardly has a part in it: 9 to -9 is usual"
            )


def _percent(share: float) -> str:
    """`98 %`, `0.1 %`; never all where something is left."""
    if 0.99 < share < 1.0:
        return "more than 99 %"
    return "100 %" if share == 1.0 else f"{100.0 * share:.2g} %"
