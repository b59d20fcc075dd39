"""How far is each trial, by its record? What a policy sees of it, read again whenever it was told to have changed."""

from __future__ import annotations

import dataclasses
from sys import intern
from typing import TYPE_CHECKING

from service.policy.base import Standing
from trainer.reading import Growing
from trainer.record import REPORTS, Record
from trainer.report import Report, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.settings import Settings

_MEASURED = ("eval/", "rung/")
"""Beginnings of the names that a dense curve keeps; the losses in it decide nothing."""


class Records:
    """The records of many trials, for as long as a driver lives: it hears of each report, and reads each once."""

    def __init__(self, settings: Settings, attempt: str | None, curves: bool) -> None:
        """`attempt` is the run of the driver whose failures count; None: every one does.

        Where nothing is decided by `curves`, a trial that is over keeps its last report alone.
        """
        self._settings, self._attempt, self._curves = settings, attempt, curves
        self._growing: dict[str, Growing] = {}

    def read(self, key: str) -> Standing:
        """One trial as it stands now."""
        record = Record(self._settings.trial(key))
        growing = self._growing.setdefault(key, Growing(record.directory / REPORTS, slim))
        standing = stand(record, self._attempt, growing.reports())
        if not standing.status.is_over:
            return standing
        del self._growing[key]
        kept = standing.reports if self._curves else standing.reports[-1:]
        return dataclasses.replace(standing, reports=kept)


def stand(record: Record, attempt: str | None, reports: Sequence[Report] | None = None) -> Standing:
    """A trial's record as a policy sees it; `reports` are its own, where they were read already."""
    failure, result = record.failure(), record.result()
    is_now = failure is not None and attempt in (None, failure.attempt)
    known = tuple(map(slim, record.reports()) if reports is None else reports)
    result = result and dataclasses.replace(result, curves={})  # the reports have them
    if result is not None:
        status = Status(result.status)
    elif is_now:
        status = Status.FAILED
    else:
        status = Status.STOPPED if known or record.images() else Status.WAITING
    return Standing(status, known, result, failure if is_now else None)


def slim(report: Report) -> Report:
    """A report without what only a page draws: its losses by step and by noise level. Thousands are held at once."""
    series = [(images, _measured(metrics)) for images, metrics in report.series]
    return dataclasses.replace(
        report,
        metrics={intern(name): value for name, value in report.metrics.items()},
        series=[(images, metrics) for images, metrics in series if metrics],
        protocol={intern(name): intern(known) for name, known in report.protocol.items()},
        levels=[],
    )


def _measured(metrics: dict[str, float]) -> dict[str, float]:
    return {intern(n): value for n, value in metrics.items() if n.startswith(_MEASURED)}
