"""Which seeds are open to which cell? A pure function of the planned looks and of what the trials' records say.

Seeds until decided: at each look the cells that have a word stop getting seeds, the others go on, and the
baseline gets what their pairs need. Words fall only here, at looks that were planned before there were data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dashboards.further import further
from dashboards.metrics import quantities
from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.evidence import Curve, Evidence, Trial
from dashboards.verdict.judging import judge
from service.policy.base import Design, Standing
from trainer.report import Status, Stop

OPEN = "INCONCLUSIVE"
NOT_COMPARED = "not compared"
"""Of a cell that the verdict refuses, or that nothing can be paired with: more seeds would not change it."""
_FINAL = ("eval/", "rung/")

Standings = Mapping[tuple[str, int], Standing]


@dataclass(frozen=True)
class CellState:
    """How far the evidence on one cell is."""

    cell: str
    seeds: tuple[int, ...]
    """Open to it: these may be trained, and no others."""
    look: int
    """Seeds at the look that it waits for, or at which it was settled."""
    pairs: int
    """How many of them have ended both here and in the baseline; of the baseline its own."""
    word: str | None = None
    """BETTER, WORSE or SAME once it is decided; INCONCLUSIVE after the last look; None on the way."""
    stopped: Stop | None = None
    """That a policy ended it for good: it is given nothing more, and has no word."""

    @property
    def is_settled(self) -> bool:
        """Whether it gets no more seeds."""
        return self.word is not None

    def text(self) -> str:
        """`4 of 6 pairs`, `BETTER at 9 seeds`, `stopped at 1.6 kimg`."""
        if self.stopped is not None:
            return f"stopped at {self.stopped.images / 1000:g} kimg"
        if self.word is not None:
            return f"{self.word} at {self.look} seeds"
        return f"{self.pairs} of {self.look} pairs"


class Looks:
    """The looks of one experiment. Verdicts are remembered by the numbers they were made from, nothing else is."""

    def __init__(self, design: Design) -> None:
        self._design, self._looks = design, design.looks or (len(design.seeds),)
        self._base = design.compare.baseline
        self._judged: dict[tuple[Any, ...], Mapping[str, str]] = {}

    @property
    def is_planned(self) -> bool:
        """Whether there is more than one: otherwise all seeds are open from the start."""
        return len(self._looks) > 1

    def states(
        self, standings: Standings, stopped: Mapping[str, Stop] | None = None
    ) -> dict[str, CellState]:
        """Every cell's state; `stopped` cells get nothing more and hold up no look, but the words know of them."""
        cells, gone = list(self._design.cells), stopped or {}
        if not self.is_planned or self._base is None or len(cells) < 2:
            whole = [self._state(standings, cell, self._looks[0]) for cell in cells]
            return {one.cell: replace(one, stopped=gone.get(one.cell)) for one in whole}
        settled: dict[str, tuple[int, str]] = {}
        waiting = [cell for cell in cells if cell != self._base and cell not in gone]
        look = self._looks[0]
        for at, look in enumerate(self._looks):
            if not waiting or not self._is_complete(standings, look, (self._base, *waiting)):
                break
            words = self._words(standings, at, waiting, settled, gone)
            is_last = look == self._looks[-1]
            settled |= {c: (look, w) for c, w in words.items() if w != OPEN or is_last}
            waiting = [cell for cell in waiting if cell not in settled]
            if not waiting:
                break
        states = {
            cell: self._state(standings, cell, *settled.get(cell, (look, None))) for cell in cells
        }
        for cell, stop in gone.items():
            state = self._state(standings, cell, self._reached(standings, cell))
            states[cell] = replace(state, stopped=stop)
        reach = max((states[c].look for c in (*waiting, *settled)), default=self._looks[0])
        states[self._base] = self._state(
            standings, self._base, reach, None if waiting else "settled"
        )
        return states

    def _reached(self, standings: Standings, cell: str) -> int:
        """The look that a stopped cell was on its way to: later ones open nothing to it."""
        begun = [standings[cell, seed].status is not Status.WAITING for seed in self._design.seeds]
        return next((look for look in self._looks if not any(begun[look:])), self._looks[-1])

    def _state(
        self, standings: Standings, cell: str, look: int, word: str | None = None
    ) -> CellState:
        seeds = self._design.seeds[:look]
        both = [cell] if self._base is None else [cell, self._base]
        pairs = sum(all(standings[c, s].status.is_over for c in both) for s in seeds)
        return CellState(cell, seeds, look, pairs, word)

    def _is_complete(self, standings: Standings, look: int, cells: Sequence[str]) -> bool:
        """Whether every trial of the look has ended; one that broke in this run gives no pair."""
        seeds = self._design.seeds[:look]
        return all(_has_ended(standings[cell, seed]) for cell in cells for seed in seeds)

    def _words(
        self,
        standings: Standings,
        at: int,
        waiting: Sequence[str],
        settled: Mapping[str, tuple[int, str]],
        gone: Mapping[str, Stop],
    ) -> Mapping[str, str]:
        """What the verdict says of the waiting cells at a look; it counts the stopped ones too."""
        look = self._looks[at]
        reach = {cell: settled.get(cell, (look, ""))[0] for cell in (*settled, *waiting)}
        reach |= {cell: self._reached(standings, cell) for cell in gone}
        ordered = [c for c in self._design.cells if c in reach or c == self._base]
        pairs = [(c, s) for c in ordered for s in self._design.seeds[: reach.get(c, look)]]
        key = (
            at,
            *gone,
            *((pair, _mark(standings[pair])) for pair in pairs if pair[0] not in gone),
        )
        if key not in self._judged:
            evidence = evidence_of(self._design, standings, pairs, gone)
            self._judged[key] = _say(evidence)
        said = self._judged[key]
        return {cell: said.get(cell, NOT_COMPARED) for cell in waiting}


def _say(evidence: Evidence) -> Mapping[str, str]:
    try:
        return {one.cell: one.word for one in judge(evidence).comparisons}
    except IncomparableError:
        return {}


def _has_ended(standing: Standing) -> bool:
    return standing.status.is_over or standing.status is Status.FAILED


def _mark(standing: Standing) -> tuple[Any, ...]:
    """What a verdict can see of an ended trial."""
    result = standing.result
    numbers = () if result is None else tuple(sorted(result.metrics.items()))
    return (standing.status, len(standing.reports), standing.images, numbers)


def evidence_of(
    design: Design,
    standings: Standings,
    pairs: Sequence[tuple[str, int]],
    stopped: Mapping[str, Stop] | None = None,
) -> Evidence:
    """The trials of these (cell, seed) as a verdict sees them; the same as read back into tables.

    `stopped` are the cells that a policy ended for good.
    """
    gone = {cell: stop.reason for cell, stop in (stopped or {}).items()}
    trials = tuple(
        replace(_trial(cell, seed, standings[cell, seed]), stopped=gone.get(cell))
        for cell, seed in pairs
    )
    names = dict.fromkeys(n for t in trials for n in (*t.finals, *t.curves))
    return Evidence(
        trials=trials,
        cells=tuple(dict.fromkeys(cell for cell, _ in pairs)),
        metric=design.compare.metric,
        quantities=quantities(names, design.space),
        baseline=design.compare.baseline,
        margin=design.compare.margin,
        own_margin=design.compare.own_margin,
        looks=design.standing_plan or design.looks,
        late=design.late,
        order=design.seeds,
        further={
            cell: further(trial.evaluation, design.compare.metric)
            for cell, trial in design.cells.items()
        },
    )


def _trial(cell: str, seed: int, standing: Standing) -> Trial:
    result, reports = standing.result, standing.reports
    points: dict[str, dict[int, float]] = {}
    protocols: dict[str, list[str]] = {}
    for report in reports:
        for images, metrics in [*report.series, (report.images, report.metrics)]:
            for name, value in metrics.items():
                if name.startswith(_FINAL):
                    points.setdefault(name, {})[images] = value
        for name, identifier in report.protocol.items():
            protocols.setdefault(name, []).append(identifier)
    for name, identifier in (result.protocol if result is not None else {}).items():
        protocols.setdefault(name, []).append(identifier)
    finals = result.metrics if result is not None and standing.status is Status.FINISHED else {}
    reason = None if result is None else result.reason
    return Trial(
        cell=cell,
        seed=seed,
        status=standing.status,
        reason=reason if standing.failure is None else standing.failure.reason,
        images=result.images if result is not None else standing.images or None,
        seconds=None if result is None else result.seconds + result.eval_seconds,
        finals={name: value for name, value in finals.items() if name.startswith(_FINAL)},
        protocols={name: tuple(dict.fromkeys(every)) for name, every in protocols.items()},
        curves={name: _curve(values) for name, values in points.items()},
    )


def _curve(values: Mapping[int, float]) -> Curve:
    at = sorted(values)
    kimg = np.array([images / 1000 for images in at], dtype=np.float64)
    return Curve(kimg, np.array([values[images] for images in at], dtype=np.float64))
