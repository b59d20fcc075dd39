"""How does what a trial left on disk become rows of the tables?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dashboards.levels import Interval
from dashboards.tables import FINAL, Points
from dashboards.verdict.evidence import rung_twin
from trainer.record import Record
from trainer.report import SHOWN, Report, Result, Status
from trainer.spec import Spec


class Planned(Protocol):
    """A trial of the plan: what `service.experiment.PlannedTrial` offers."""

    @property
    def cell(self) -> str:
        """Name of its cell."""

    @property
    def seed(self) -> int:
        """Its seed, shared with one trial of every other cell."""

    @property
    def spec(self) -> Spec:
        """The resolved trial."""

    @property
    def key(self) -> str:
        """Its trial key: the name of its directory."""


class Picture(NamedTuple):
    """A grid of generated samples."""

    kimg: float
    """Thousands of training images seen."""
    path: Path
    """A PNG."""


@dataclass(frozen=True)
class TrialRows:
    """A trial's directory, read."""

    trial: dict[str, Any]
    curves: list[Points]
    """Of every metric that has one; if not `whole`, of those that are measured."""
    samples: tuple[Picture, ...]
    """The sample grids that are there, in the order of training."""
    levels: tuple[Interval, ...]
    """The loss by noise level of every report that has it."""
    draws: dict[str, tuple[float, ...]]
    """Final metric to its value under each generation noise, where there were several."""
    errors: dict[str, float]
    """Final metric to its standard error from the images alone, where it was asked for."""
    spaces: dict[str, str]
    """Kind of a feature space to what is known of it."""
    clock: list[dict[str, Any]]
    """`CLOCK_COLUMNS` of the tables: what it took to come to each evaluation."""
    flops_per_image: float | None
    """Floating point operations of training for one image, where they were counted."""


def read_trial(
    trial: Planned, directory: Path, metric: str, stopped: str | None = None, whole: bool = True
) -> TrialRows:
    """Rows of one trial, whose protocols are those of `metric` and of its cheap twin.

    A directory that is not there is a trial that waits. `stopped` says why its cell was ended for good. What is not
    wanted `whole` has the curves of what was measured alone: of a trial that is over no report is opened.
    """
    record = Record(directory)
    result = record.result()
    if result is not None and result.curves and not whole:
        return _measured(trial, result, metric, stopped)
    reports, failure = record.reports(), record.failure()
    protocols = {name: one for report in reports for name, one in report.protocol.items()}
    protocols |= result.protocol if result is not None else {}
    identity = {"cell": trial.cell, "seed": trial.seed, "trial_key": trial.key}
    row = identity | {
        "status": record.status(),
        "reason": stopped if failure is None else failure.reason,
        "protocol": protocols.get(metric),
        "protocol_rung": protocols.get(rung_twin(metric)),
        "kimg": reports[-1].kimg if reports else None,
    }
    curves = list(_curves(reports, protocols, SHOWN if whole else FINAL))
    if not whole:
        reports = []
    return TrialRows(
        trial=row if result is None else row | _ended(result, stopped),
        curves=curves,
        samples=tuple(
            Picture(report.kimg, path)
            for report in reports
            if (path := record.sample_path(report)) is not None
        ),
        levels=tuple(Interval(r.kimg, tuple(r.levels)) for r in reports if r.levels),
        draws=_draws(result),
        errors=_errors(result),
        spaces=result.spaces if result is not None else {},
        clock=[identity | point for point in _clock(reports)],
        flops_per_image=result.flops_per_image if result is not None else None,
    )


def _curves(
    reports: Sequence[Report], protocols: Mapping[str, str], shown: tuple[str, ...]
) -> Iterator[Points]:
    """Of a number that was told again the last counts."""
    found: dict[str, dict[int, tuple[float, str | None]]] = {}
    for report in reports:
        ids = report.protocol or protocols
        for images, metrics in [*report.series, (report.images, report.metrics)]:
            for name, value in metrics.items():
                if name.startswith(shown):
                    found.setdefault(name, {})[images] = (value, ids.get(name))
    for name, points in found.items():
        values, own = zip(*points.values(), strict=True)
        yield Points(name, list(points), values, own)


def _measured(trial: Planned, result: Result, metric: str, stopped: str | None) -> TrialRows:
    """What its result alone says of a trial that is over."""
    ids = result.protocol
    row = {"cell": trial.cell, "seed": trial.seed, "trial_key": trial.key}
    row |= {"status": Status(result.status), "protocol": ids.get(metric)}
    row |= {"protocol_rung": ids.get(rung_twin(metric))}
    return TrialRows(
        trial=row | _ended(result, stopped),
        curves=[
            Points(name, images, values, [ids.get(name)] * len(images))
            for name, (images, values) in result.curves.items()
        ],
        samples=(),
        levels=(),
        draws=_draws(result),
        errors=_errors(result),
        spaces=result.spaces,
        clock=[],
        flops_per_image=result.flops_per_image,
    )


def _draws(result: Result | None) -> dict[str, tuple[float, ...]]:
    every = {} if result is None else result.draws
    return {name: tuple(values) for name, values in every.items()}


def _clock(reports: Sequence[Report]) -> Iterator[dict[str, Any]]:
    """Seconds of training and of evaluation up to each report, without pauses and without what was lost in between.

    A report says how fast the training was since the last one; it ends with the first that does not.
    """
    train_s = eval_s = 0.0
    before = 0
    for report in reports:
        speed = report.metrics.get("sys/img_per_s", math.nan)
        if not speed > 0:
            return
        train_s += (report.images - before) / speed
        eval_s += report.metrics.get("sys/eval_s", 0.0)
        before = report.images
        yield {"images": report.images, "train_s": train_s, "eval_s": eval_s}


def _errors(result: Result | None) -> dict[str, float]:
    """`eval/fid` to what was reported as `se/fid`."""
    every = {} if result is None else result.metrics
    return {f"eval/{n.removeprefix('se/')}": v for n, v in every.items() if n.startswith("se/")}


def _ended(result: Result, stopped: str | None) -> dict[str, Any]:
    return {
        "reason": result.reason or stopped,
        "kimg": result.images / 1000,
        "seconds": result.seconds + result.eval_seconds,
        "metrics": result.metrics,
    }
