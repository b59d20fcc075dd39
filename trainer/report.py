"""What does a training say of itself? Reports along the way, one result or failure at the end, a status.

Values only; `trainer.record` keeps them on disk.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Literal

from trainer.sealed import seal, unseal

MEASURED = ("eval/", "rung/")
"""Beginnings of the metrics that are measured, by which trials are compared; the others tell of the training."""
SHOWN = (*MEASURED, "train/")
"""Beginnings of the metrics that have curves."""
Curves = dict[str, list[list[float]]]
"""Metric to two rows: images seen, and its values there."""


class Status(StrEnum):
    """How far a trial is. The one list of such words: in progress, plan, tables, MLflow and verdict."""

    WAITING = "waiting"
    """Nothing has begun."""
    RUNNING = "running"
    """Somebody is at work on it."""
    STOPPED = "stopped"
    """Begun, nobody is at work on it; it continues from its checkpoint."""
    FINISHED = "finished"
    DIVERGED = "diverged"
    """Ended without numbers: a result, not an accident."""
    FAILED = "failed"
    """An attempt broke; the next one continues."""

    @property
    def is_over(self) -> bool:
        """Whether there is a result."""
        return self in (Status.FINISHED, Status.DIVERGED)


@dataclass(frozen=True)
class Report:
    """One evaluation of a running trial."""

    images: int
    """Training images seen."""
    time_s: float
    """Unix time at which it was measured; stored once, so that sending it again changes nothing."""
    metrics: dict[str, float]
    """`eval/...`, `rung/...`, `se/...`, `train/loss`, `sys/...`; NaN only in a diverged trial, or where a further
    protocol's samples are not finite."""
    series: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Dense curve since the last report: (images, metrics)."""
    sample_png: str | None = None
    """Picture of generated samples, relative to the trial's directory."""
    done: bool = False
    """Whether this is the last report."""
    failure: str | None = None
    """Why the trial ended early, if it diverged."""
    notes: list[str] = field(default_factory=list)
    """Lines a person should see, such as a damaged checkpoint that was passed over."""
    protocol: dict[str, str] = field(default_factory=dict)
    """Protocol id of each metric that has one: `eval/fid` to 12 hex digits."""
    draws: dict[str, list[float]] = field(default_factory=dict)
    """The value under each generation noise, in order, of every metric that is the mean of several."""
    levels: list[tuple[float, int, float, float, float | None]] = field(default_factory=list)
    """Training loss by noise level since the last report, one row for each bin of log-SNR that was drawn: its middle,
    examples, their mean epsilon-MSE, their mean loss as it is minimized, and the mean squared norm of its gradient,
    where that was looked at."""

    @property
    def kimg(self) -> float:
        """Thousands of training images seen."""
        return self.images / 1000.0

    def to_json(self) -> str:
        """One line of JSON; numbers survive the round trip to the last bit."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Inverse of `to_json`; ValueError, KeyError or TypeError where it is damaged."""
        fields = unseal(text)
        fields["series"] = [(int(images), values) for images, values in fields["series"]]
        fields["levels"] = [
            (middle, int(count), unweighted, weighted, rest[0] if rest else None)
            for middle, count, unweighted, weighted, *rest in fields.get("levels", [])
        ]
        return cls(**fields)

    def levels_csv(self) -> str:
        """`levels` as a table with a heading; gradients, if any were looked at, are empty where none were."""
        heading = ["log_snr", "examples", "epsilon_mse", "loss", "gradient_second_moment"]
        width = 4 + any(row[4] is not None for row in self.levels)
        rows = [["" if value is None else str(value) for value in row] for row in self.levels]
        return "".join(",".join(row[:width]) + "\n" for row in [heading, *rows])


def measured(reports: Iterable[Report], protocol: Mapping[str, str]) -> Curves:
    """The curves of what was measured, each image count once; none where reports have other protocols than these."""
    points: dict[str, dict[int, float]] = {}
    for report in reports:
        if any(protocol.get(name) != identifier for name, identifier in report.protocol.items()):
            return {}
        for images, metrics in [*report.series, (report.images, report.metrics)]:
            for name, value in metrics.items():
                if name.startswith(MEASURED):
                    points.setdefault(name, {})[images] = value
    return {name: [[*found], [*found.values()]] for name, found in points.items()}


def report_of(line: str) -> Report | None:
    """The report that a line says; None where it was cut short or is damaged."""
    try:
        return Report.from_json(line)
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Result:
    """How a trial ended. Written last: a directory with a result is done."""

    status: Literal["finished", "diverged"]
    reason: str | None
    images: int
    metrics: dict[str, float]
    """The last report's metrics."""
    started_s: float
    """Unix time of the first training step of the first attempt."""
    seconds: float
    """Wall seconds of training steps, over all attempts."""
    eval_seconds: float
    """Wall seconds of evaluation, over all attempts."""
    protocol: dict[str, str]
    """Protocol id of each metric: `eval/fid`, and `rung/fid` if there is a cheap curve."""
    parameters: int
    """Trainable parameters of the network."""
    draws: dict[str, list[float]] = field(default_factory=dict)
    """The last report's draws: `eval/fid` to its value under each noise; empty when there was one."""
    spaces: dict[str, str] = field(default_factory=dict)
    """Kind of a feature space to what is known of it, such as how well a classifier knows its images."""
    trial: str = ""
    """Key of what was trained; empty in results of earlier versions."""
    flops_per_image: float | None = None
    """Floating point operations of training for one image (see `trainer.flops`); None where they are not known."""
    microbatch: int | None = None
    """Images in a pass on one worker at the end, where memory ran out on the way; None: as the trial says."""
    curves: Curves = field(default_factory=dict)
    """What was measured on the way, so that a comparison of many trials opens no reports. Empty in results of earlier
    versions, and where protocols changed on the way: the reports say it."""


@dataclass(frozen=True)
class Stop:
    """Why an experiment ended one of its trials for good on the way. Another experiment may go on with it."""

    experiment: str
    cell: str
    policy: str
    """Kind of the policy that decided it."""
    rule: str
    """Digest of that policy with its settings: under another one the trial is free to go on."""
    reason: str
    """One line: where, and by what comparison."""
    images: int
    """Images seen at its last evaluation then."""
    time_s: float = field(default_factory=time.time)
    """Unix time."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt at a trial broke."""

    reason: str
    """One line, with the way out where there is one."""
    attempt: str = ""
    """Which run of the driver it was: a failure under this name is not tried again by that run."""
    log: str | None = None
    """File with the whole story."""
    time_s: float = field(default_factory=time.time)
    """Unix time."""

    def heading(self) -> str:
        """Time and reason, as its story in the log begins."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.time_s))
        return f"{when} {self.reason}"
