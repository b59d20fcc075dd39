"""What does a trial leave on disk? One directory, and this is the only door to its files.

trial.json        the trial, so that no other is trained here
reports.jsonl     one line per evaluation
checkpoint-*/     the newest states; written aside and renamed, manifest last
samples/*.png     pictures of generated samples
snapshots/*.pt    copies of averages on the way, where the trial keeps some
averages/*.pt     averages that were made of them afterwards, and given a name
stops.json        which experiments ended it for good on the way, and why
failure.json      why the last attempt broke, with failure.log; gone once an attempt succeeds
result.json       how it ended; written last: a directory with a result is done
pulse.json        how far it is at this moment (`trainer.pulse`); no part of the record
writer.lock       held by the process that trains here
train/            scratch of whatever runs the training; no part of the record
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from trainer.checkpoint import MANIFEST, PREFIX, STATE, checkpoints, images_of, newest_state, sha256
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.lazily import torch
from trainer.lease import Lease
from trainer.made import MadeAverages
from trainer.reading import NO_FILE
from trainer.report import Failure, Report, Result, Status, Stop, report_of
from trainer.sealed import seal, unseal
from trainer.snapshots import Snapshots
from trainer.trial import TrialSpec

REPORTS, RESULT, TRIAL, STOPS = "reports.jsonl", "result.json", "trial.json", "stops.json"
FAILURE, FAILURE_LOG, LOCK, SCRATCH = "failure.json", "failure.log", "writer.lock", "train"
_SAMPLE = re.compile(r"samples/[0-9]{1,20}\.png")
KEEP = 2
"""Checkpoints kept while a trial trains; one is enough when it is done."""


class Record:
    """The directory of one trial. What is not there, was cut short by a crash or is damaged reads as absent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def status(self, attempt: str | None = None) -> Status:
        """How far the trial is, from what lies here; whether anybody is at work on it is not known here.

        With an `attempt`, failures of other attempts do not count.
        """
        if (result := self.result()) is not None:
            return Status(result.status)
        if (failure := self.failure()) is not None and attempt in (None, failure.attempt):
            return Status.FAILED
        return Status.STOPPED if self.images() or self.reports() else Status.WAITING

    # What is trained here

    def trial(self) -> TrialSpec | None:
        """The trial that was begun here; UserError if it cannot be read."""
        file = self.directory / TRIAL
        try:
            return TrialSpec.saved(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise UserError(
                f"{file} cannot be read: it is damaged, or of a later version; choose another directory, "
                f"or remove {self.directory} to train again"
            ) from None

    def refuse_another(self, trial: TrialSpec) -> None:
        """Raise UserError if the directory holds another trial's training, or nobody can say whose."""
        there = self.trial()
        if there is not None and there.key("") != trial.key(""):
            raise UserError(
                f"{self.directory} holds another trial ({TRIAL}): choose another directory"
            )

    def begin(self, trial: TrialSpec, images: int) -> None:
        """Say what is trained here, from `images` on: later reports are about to be repeated.

        Only for the process that trains here: what an interrupted one left half written goes.
        """
        for leftover in self.directory.glob(f".partial-{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        kept = [report for report in self.reports() if report.images <= images]
        write_whole(self.directory / REPORTS, "".join(f"{report.to_json()}\n" for report in kept))
        write_whole(self.directory / TRIAL, trial.model_dump_json(indent=1))

    # Reports, samples and the result

    def reports(self) -> list[Report]:
        """All complete reports, in order; a line that was cut short or damaged is left out."""
        return [report for line in self._lines() if (report := report_of(line)) is not None]

    def _lines(self) -> list[str]:
        """Of the reports; none where there is no such file."""
        try:
            return (self.directory / REPORTS).read_text(errors="replace").split("\n")
        except NO_FILE:
            return []

    def damage(self) -> str | None:
        """What of the past is lost for good, though a crash alone would not have lost it; None where nothing is."""
        if (self.directory / REPORTS).is_dir():
            return f"{self.directory / REPORTS} is a directory"
        lines = self._lines()
        read = [report_of(line) for line in lines]
        lost = [n for n, one in enumerate(read[:-1], 1) if one is None and lines[n - 1]]
        if lost:
            return f"line {lost[0]} of {self.directory / REPORTS} is damaged"
        if (end := self.result()) and end.images not in [one.images for one in read if one]:
            return f"{self.directory / REPORTS} lacks its end"
        return None

    def set_aside(self) -> Path:
        """Give the directory another name, so that the trial is trained again; returns it."""
        aside = f"{self.directory.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        return self.directory.rename(self.directory.with_name(aside))

    def add_report(self, report: Report) -> None:
        """Add a line, on disk when this returns."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / REPORTS, "a+b") as file:
            if file.tell() and not _ends_with_newline(file):
                file.write(b"\n")  # the line before was cut short by a crash
            file.write(f"{report.to_json()}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def accept_report(self, report: Report) -> bool:
        """Add a report that was made elsewhere, unless the one at these images is here: True if it was new."""
        number = str(report.images)  # a line without it is not parsed
        same = (report_of(line) for line in self._lines() if number in line)
        if any(known is not None and known.images == report.images for known in same):
            return False
        self.add_report(report)
        return True

    def result(self) -> Result | None:
        """The result, or None while the trial is not done; a file that cannot be read is no result."""
        try:
            result = Result(**unseal((self.directory / RESULT).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return result if result.status in (Status.FINISHED, Status.DIVERGED) else None

    def write_result(self, result: Result) -> None:
        """The trial is done."""
        write_whole(self.directory / RESULT, seal(asdict(result)))

    def accept_result(self, result: Result) -> bool:
        """Keep a result that was made elsewhere, unless there is one here: True if it was new."""
        if self.result() is not None:
            return False
        self.write_result(result)
        return True

    def write_sample(self, images: int, png: bytes) -> str:
        """Keep a picture of samples; returns its name relative to the directory."""
        name = f"samples/{images:012d}.png"
        write_whole(self.directory / name, png)
        return name

    def sample(self, report: Report) -> bytes | None:
        """The PNG of a report's samples, if it is here."""
        path = self.sample_path(report)
        return None if path is None else path.read_bytes()

    def sample_path(self, report: Report) -> Path | None:
        """Where the picture of a report's samples is, if it is here."""
        name = report.sample_png
        if not isinstance(name, str) or not _SAMPLE.fullmatch(
            name
        ):  # of another hand: a file that is not ours
            return None
        path = self.directory / name
        is_own = path.is_file() and not path.is_symlink() and not path.parent.is_symlink()
        return path if is_own else None

    # Failures

    def failure(self) -> Failure | None:
        """Why the last attempt broke; None when it did not."""
        try:
            return Failure(**json.loads((self.directory / FAILURE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_failure(self, failure: Failure, text: str = "") -> Failure:
        """Keep a failure, and the whole story in its log: returns it with the log's path.

        Where nothing can be written, which may be why it failed, it comes back as it is.
        """
        log = self.directory / FAILURE_LOG
        kept = Failure(failure.reason, failure.attempt, str(log), failure.time_s)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with open(log, "a") as file:
                file.write(f"{failure.heading()}\n{text}\n")
            write_whole(self.directory / FAILURE, json.dumps(asdict(kept)))
        except OSError:
            return failure
        return kept

    def failure_text(self, most: int = 20_000) -> str:
        """What the log tells of the failure, its last `most` characters; empty when there is none."""
        failure = self.failure()
        try:
            log = (self.directory / FAILURE_LOG).read_text(errors="replace") if failure else ""
        except FileNotFoundError:
            return ""
        return log.rpartition(f"{failure.heading()}\n")[2].strip()[-most:] if failure else ""

    def clear_failure(self) -> None:
        """A new attempt begins; the log stays."""
        (self.directory / FAILURE).unlink(missing_ok=True)

    # Stops

    def stops(self) -> list[Stop]:
        """Which experiments ended the trial for good; a file that cannot be read is none."""
        try:
            return [Stop(**each) for each in json.loads((self.directory / STOPS).read_text())]
        except (OSError, ValueError, TypeError):
            return []

    def write_stop(self, stop: Stop) -> None:
        """Keep why an experiment ended the trial; its earlier word on the same cell goes."""
        of = (stop.experiment, stop.cell)
        others = [each for each in self.stops() if (each.experiment, each.cell) != of]
        content = json.dumps([asdict(each) for each in (*others, stop)], indent=1)
        write_whole(self.directory / STOPS, content)

    @property
    def snapshots(self) -> Snapshots:
        """Copies of averages on the way."""
        return Snapshots(self.directory / "snapshots")

    @property
    def made(self) -> MadeAverages:
        """Averages that were made afterwards."""
        return MadeAverages(self.directory / "averages")

    @property
    def scratch(self) -> Path:
        """A folder for whatever runs the training here; nothing in it is read back."""
        return self.directory / SCRATCH

    def writer(self, wait_s: float = 0.0) -> Lease:
        """The right to train here; HeldError says who has it."""
        return Lease(self.directory / LOCK, wait_s)

    # Checkpoints

    def images(self) -> int:
        """Images seen at the newest checkpoint, which is not opened; 0 when there is none."""
        there = checkpoints(self.directory)
        return images_of(there[-1]) if there else 0

    def save_checkpoint(self, images: int, state: dict[str, Any], keep: int = KEEP) -> Path:
        """Write `checkpoint-<images>` whole and drop all but the newest `keep`.

        `state` holds tensors and plain Python values only.
        """
        final = self.directory / f"{PREFIX}{images:012d}"
        partial = self.directory / f".partial-{final.name}-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            torch.save(state, partial / STATE)
            manifest = {"images": images, "sha256": sha256(partial / STATE)}
            (partial / MANIFEST).write_text(json.dumps(manifest))
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in checkpoints(self.directory)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def newest_state(
        self, device: torch.device, at: int | None = None
    ) -> tuple[dict[str, Any] | None, list[str]]:
        """As of `checkpoint.newest_state`."""
        return newest_state(self.directory, device, at)


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
