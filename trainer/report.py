"""What does a training say of itself? Reports along the way and one result at the end, as JSON on disk.

`reports.jsonl` and `result.json` in the trial's directory are the record; everything else is delivery.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

REPORTS = "reports.jsonl"
RESULT = "result.json"
TRIAL = "trial.json"


@dataclass(frozen=True)
class Report:
    """One evaluation of a running trial."""

    images: int
    """Training images seen."""
    time_s: float
    """Unix time at which it was measured; stored once, so that sending it again changes nothing."""
    metrics: dict[str, float]
    """`eval/...`, `rung/...`, `train/loss`, `sys/...`; NaN only in a diverged trial."""
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

    @property
    def kimg(self) -> float:
        """Thousands of training images seen."""
        return self.images / 1000.0

    def to_json(self) -> str:
        """One line of JSON; numbers survive the round trip to the last bit."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Inverse of `to_json`."""
        fields: dict[str, Any] = json.loads(text)
        fields["series"] = [(int(images), values) for images, values in fields["series"]]
        return cls(**fields)


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
    """Protocol ids: "eval" and, if there is a cheap curve, "rung"."""
    parameters: int
    """Trainable parameters of the network."""


def append_report(directory: Path, report: Report) -> None:
    """Add a line to `reports.jsonl`, on disk when this returns."""
    with open(directory / REPORTS, "a") as file:
        file.write(report.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_reports(directory: Path) -> list[Report]:
    """All complete lines of `reports.jsonl`; a line cut short by a crash is left out."""
    path = directory / REPORTS
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [Report.from_json(line) for line in lines[:-1] if line]


def rewind_reports(directory: Path, images: int) -> None:
    """Drop reports later than `images`: their training is about to be repeated."""
    kept = [report for report in read_reports(directory) if report.images <= images]
    partial = directory / f"{REPORTS}.partial"
    partial.write_text("".join(report.to_json() + "\n" for report in kept))
    partial.replace(directory / REPORTS)


def write_result(directory: Path, result: Result) -> None:
    """Write `result.json` whole or not at all."""
    partial = directory / f"{RESULT}.partial"
    with open(partial, "w") as file:
        file.write(json.dumps(asdict(result), indent=1))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(directory / RESULT)


def read_result(directory: Path) -> Result | None:
    """The result, or None while the trial is not done; a file that cannot be read is no result."""
    try:
        return Result(**json.loads((directory / RESULT).read_text()))
    except (OSError, ValueError, TypeError):
        return None
