"""How often does a report claim what is not so? Whole reports are simulated, with everything they print."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dashboards.verdict.evidence import Evidence
from dashboards.verdict.judging import judge
from dashboards.verdict.values import Measure, Verdicts
from tests.honesty.worlds import World


@dataclass(frozen=True)
class Schedule:
    """When somebody looks at an experiment."""

    name: str
    seen: tuple[int, ...]
    """Seeds that are there at each look."""
    planned: tuple[int, ...]
    """Looks that were planned."""


def fixed(n: int) -> Schedule:
    """One look, as planned."""
    return Schedule(f"{n} seeds", (n,), (n,))


def planned(*looks: int) -> Schedule:
    """Several, as planned; the last report replays them all, cells that are decided keep their seeds."""
    return Schedule(f"looks at {', '.join(map(str, looks))}", looks[-1:], looks)


def unplanned(first: int, seen: Sequence[int]) -> Schedule:
    """One planned, and then more seeds, each time with another look."""
    return Schedule(f"planned {first}, seen {seen[0]} to {seen[-1]}", tuple(seen), (first,))


@dataclass
class Tally:
    """What was claimed in many experiments."""

    experiments: int = 0
    claims: int = 0
    """Experiments with any BETTER or WORSE: any cell, any measure, any look."""
    same: int = 0
    """Experiments with any SAME of the final metric."""
    decided: int = 0
    """Cells whose final metric was found to be different."""
    cells: int = 0
    seeds: int = 0
    """Seeds of all cells until decided or used up."""
    covered: dict[str, list[bool]] = field(default_factory=dict)
    """By measure: whether an interval covers, over every interval that any report printed."""

    @staticmethod
    def rate(hits: int, of: int) -> tuple[float, float]:
        """Share and its standard error."""
        share = hits / max(1, of)
        return share, math.sqrt(max(share * (1 - share), 1e-12) / max(1, of))


def run(world: World, schedule: Schedule, experiments: int, seed: int = 0) -> Tally:
    """Simulate experiments and count."""
    tally = Tally()
    for number in range(experiments):
        rng = np.random.default_rng([seed, number])
        whole = world.draw(schedule.seen[-1], rng)
        reports = list(_reports(whole, schedule))
        tally.experiments += 1
        words = {(m.cell, m.baseline, m.name, m.word) for v in reports for m in _printed(v)}
        tally.claims += any(word in ("BETTER", "WORSE") for *_, word in words)
        tally.same += any(name == "final" and word == "SAME" for *_, name, word in words)
        for comparison in reports[-1].comparisons:
            tally.cells += 1
            tally.decided += comparison.word in ("BETTER", "WORSE")
            tally.seeds += comparison.decided_at or schedule.seen[-1]
        for measure in _printed(reports[-1]):
            if measure.interval.known:
                truth = _truth(world, measure)
                covers = _covers(measure, truth)
                if covers is not None:
                    tally.covered.setdefault(measure.name, []).append(covers)
    return tally


def _printed(verdicts: Verdicts) -> list[Measure]:
    """Everything that has a word: cells, and rows under further protocols."""
    own = [measure for c in verdicts.comparisons for measure in c.measures()]
    return [*own, *(row.final for row in verdicts.rows if row.final is not None)]


def _truth(world: World, measure: Measure) -> float:
    """The effect of the trainings that are compared; protocols have none."""
    cell, base = (int(name.partition("@")[0][1:]) for name in (measure.cell, measure.baseline))
    effects = (0.0, *world.effects)
    return effects[cell] - effects[base]


def _covers(measure: Measure, truth: float) -> bool | None:
    """Whether an interval holds the true effect; None where that is not known in closed form."""
    if truth != 0 and measure.name not in ("final", "area"):
        return None
    low, high = measure.interval.low, measure.interval.high
    assert low is not None
    assert high is not None
    return low <= math.expm1(truth) <= high if measure.ratio else low <= 0 <= high


def _reports(whole: Evidence, schedule: Schedule) -> Iterator[Verdicts]:
    """The reports that somebody gets who looks when the schedule says; cells that are decided stop."""
    for n in schedule.seen:
        trials = tuple(trial for trial in whole.trials if trial.seed < n)
        yield judge(
            dataclasses.replace(
                whole, trials=trials, looks=schedule.planned, order=tuple(range(schedule.seen[-1]))
            )
        )
