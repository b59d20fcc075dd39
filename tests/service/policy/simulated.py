"""Cells whose curves are known beforehand, run under a policy: what it costs, and what it keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from service.experiment import Compare
from service.policy import Design, PlanPolicy, Standing
from trainer.report import Report, Result, Status, Stop

Curves = Mapping[tuple[str, int], Sequence[float]]
"""(cell, seed) to its values at the evaluations; the last is the final one."""


@dataclass(frozen=True)
class Shape:
    """Of a trial, what a policy asks of it."""

    points: tuple[int, ...]

    @property
    def train(self) -> SimpleNamespace:
        return SimpleNamespace(batch_size=1)

    def total_images(self) -> int:
        return self.points[-1]

    def evaluation_points(self) -> list[int]:
        return list(self.points)


@dataclass
class Outcome:
    """How it ended."""

    cost: float
    """Of the images that all trials together would have seen."""
    finished: set[str]
    """Cells that were trained to the end with every seed."""
    stopped: dict[str, str]
    handed: list[tuple[str, int, int]]


def design(
    cells: Sequence[str], seeds: int, points: Sequence[int], baseline: str | None = None
) -> Design:
    """These cells, all with evaluations at `points`."""
    trial: Any = Shape(tuple(points))
    compare = Compare(baseline=baseline)
    return Design(dict.fromkeys(cells, trial), tuple(range(seeds)), compare)


def run(
    policy: PlanPolicy, seen: Design, curves: Curves, finals: Curves | None = None, slots: int = 1
) -> Outcome:
    """As a driver does: ask after every report, stop what is unwanted, keep what was stopped."""
    points = next(iter(seen.cells.values())).evaluation_points()
    records = dict.fromkeys(((c, s) for s in seen.seeds for c in seen.cells), Standing())
    stopped: dict[str, str] = {}
    handed: list[tuple[str, int, int]] = []
    busy: dict[tuple[str, int], int] = {}
    while True:
        for cell, why in policy.stops(seen, records).items():
            if cell != seen.compare.baseline and cell not in stopped:
                stopped[cell] = why
                for pair, standing in records.items():
                    if pair[0] == cell and standing.reports:
                        stop = Stop("x", cell, policy.label(), "", why, standing.images, 0.0)
                        records[pair] = dataclasses.replace(standing, stopped=stop)
        work = [w for w in policy.wanted(seen, records) if w.cell not in stopped]
        wanted = {(w.cell, w.seed): w.until_images for w in work}
        busy = {p: u for p, u in busy.items() if wanted.get(p, 0) > records[p].images < u}
        for pair, until in wanted.items():
            if len(busy) < slots and pair not in busy and _is_open(records[pair], until):
                busy[pair] = until
                handed.append((*pair, until))
        if not busy:
            break
        for pair in list(busy):
            records[pair] = _further(records[pair], pair, points, curves, finals or curves)
    seen_images = sum(standing.images for standing in records.values())
    ended = {c for c in seen.cells if all(records[c, s].status.is_over for s in seen.seeds)}
    return Outcome(seen_images / (len(records) * points[-1]), ended - set(stopped), stopped, handed)


def _is_open(standing: Standing, until: int) -> bool:
    return not standing.status.is_over and standing.images < until


def _further(
    standing: Standing, pair: tuple[str, int], points: Sequence[int], curves: Curves, finals: Curves
) -> Standing:
    at = len(standing.reports)
    value = float(curves[pair][at])
    report = Report(points[at], 0.0, {"rung/fid": value if np.isfinite(value) else np.nan})
    reports = (*standing.reports, report)
    if at + 1 < len(points):
        return Standing(Status.STOPPED, reports)
    metrics = {"eval/fid": float(finals[pair][-1])}
    result = Result("finished", None, points[-1], metrics, 0.0, 1.0, 1.0, {}, 1)
    return Standing(Status.FINISHED, reports, result)
