"""Which rows does the certificate have, and what does each have to say?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from tests.honesty.certificate import Schedule, Tally, fixed, planned, run, unplanned
from tests.honesty.worlds import PAIR_SD, Noise, World

NOISES: tuple[Noise, ...] = ("gaussian", "log-normal", "t3")
RIVALS = (1, 2, 5)
SCHEDULES = (
    *(fixed(n) for n in (4, 6, 8, 12, 20)),
    planned(6, 9, 12),
    planned(4, 6, 8, 10, 12, 14, 16, 18, 20),
    unplanned(3, (3, 6, 8, 10, 12, 16, 20)),
    unplanned(6, (6, 8, 10, 12, 16, 20)),
)
MOST_CLAIMS, LEAST_COVERAGE = 0.051, 0.94


def rows(experiments: int) -> Iterator[Row]:
    """The whole certificate."""
    for noise in NOISES:
        for rivals in RIVALS:
            for schedule in SCHEDULES:
                yield Row(Part.NULL, World(noise, (0.0,) * rivals), schedule, experiments)
    for noise in NOISES:
        for schedule in (fixed(8), planned(6, 9, 12), unplanned(6, (6, 8, 10, 12, 16, 20))):
            yield Row(Part.NULL, World(noise, (0.0,), further=2), schedule, experiments)
    for rivals in RIVALS:
        for schedule in (fixed(8), fixed(20), planned(6, 9, 12)):
            world = World("gaussian", (math.log1p(0.1),) * rivals, margin=0.1)
            yield Row(Part.SAME, world, schedule, experiments)
    for effect in (1, 2):
        for rivals in RIVALS:
            for schedule in (fixed(6), fixed(12), planned(6, 9, 12), unplanned(6, (6, 9, 12))):
                world = World("gaussian", (effect * PAIR_SD,) * rivals)
                yield Row(Part.POWER, world, schedule, max(1, experiments // 3))
    for rivals in RIVALS:
        world = World("gaussian", (PAIR_SD,) * rivals, further=2)
        yield Row(Part.POWER, world, fixed(12), max(1, experiments // 3))


class Part(Enum):
    """What is simulated."""

    NULL = "no difference: experiments with any BETTER or WORSE; coverage of the intervals"
    SAME = "a difference as large as the margin: experiments with any SAME"
    POWER = "a difference: cells found, mean number of seeds"

    @property
    def heading(self) -> str:
        """What its rows say."""
        return self.value


@dataclass(frozen=True)
class Row:
    """One row of the certificate."""

    part: Part
    world: World
    schedule: Schedule
    experiments: int

    def run(self) -> tuple[str, bool]:
        """Simulate; the row as text, and whether what it says holds."""
        tally = run(self.world, self.schedule, self.experiments)
        said = {Part.NULL: _null, Part.SAME: _same, Part.POWER: _power}[self.part]
        return said(self.world, self.schedule, tally)


def _name(world: World, schedule: Schedule) -> str:
    rivals = len(world.effects)
    who = f"{rivals} rival{'s' * (rivals > 1)}"
    further = f", {world.further} further protocols" if world.further else ""
    return f"{world.noise:10s} {who}, {schedule.name + further:44s}"


def _null(world: World, schedule: Schedule, tally: Tally) -> tuple[str, bool]:
    share, error = Tally.rate(tally.claims, tally.experiments)
    covered = {name: Tally.rate(sum(hits), len(hits)) for name, hits in tally.covered.items()}
    texts = [f"{name} {100 * rate:.1f}" for name, (rate, _) in covered.items()]
    is_good = share <= MOST_CLAIMS + 3 * error and all(
        rate >= LEAST_COVERAGE - 3 * math.sqrt(len(world.effects)) * error
        for rate, error in covered.values()
    )
    text = f"{_name(world, schedule)} {100 * share:4.1f} +- {100 * error:.1f} %; covers {', '.join(texts)} %"
    return text + ("" if is_good else "   <-- NO"), is_good


def _same(world: World, schedule: Schedule, tally: Tally) -> tuple[str, bool]:
    share, error = Tally.rate(tally.same, tally.experiments)
    is_good = share <= MOST_CLAIMS + 3 * error
    return f"{_name(world, schedule)} {100 * share:4.1f} +- {100 * error:.1f} %", is_good


def _power(world: World, schedule: Schedule, tally: Tally) -> tuple[str, bool]:
    effect = round(world.effects[0] / PAIR_SD)
    share, error = Tally.rate(tally.decided, tally.cells)
    seeds = tally.seeds / tally.cells
    text = f"{effect} sd {_name(world, schedule)} {100 * share:5.1f} +- {100 * error:.1f} %, {seeds:.1f} seeds"
    return text, bool(np.isfinite(share))
