"""The certificate: rates at which whole reports claim what is not so, with standard errors.

make honesty                              # everything, most of an hour on a quiet core
python -m tests.honesty --experiments 200 # coarser
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator

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


def main() -> int:
    """Print every row; the exit code says whether all hold within three standard errors."""
    parser = argparse.ArgumentParser(prog="python -m tests.honesty")
    parser.add_argument("--experiments", type=int, default=1000, help="simulated per row")
    wanted = parser.parse_args()
    begun, holds = time.monotonic(), True
    for line, is_good in _rows(wanted.experiments):
        print(line, flush=True)
        holds &= is_good
    print(f"{'holds' if holds else 'DOES NOT HOLD'}; {time.monotonic() - begun:.0f} s")
    return 0 if holds else 1


def _rows(experiments: int) -> Iterator[tuple[str, bool]]:
    yield (
        "no difference: share of experiments with any BETTER or WORSE; coverage of intervals",
        True,
    )
    for noise in NOISES:
        for rivals in RIVALS:
            for schedule in SCHEDULES:
                world = World(noise, (0.0,) * rivals)
                yield _null(world, schedule, run(world, schedule, experiments))
    yield "a difference as large as the margin: share of experiments with any SAME", True
    for rivals in RIVALS:
        for schedule in (fixed(8), fixed(20), planned(6, 9, 12)):
            world = World("gaussian", (math.log1p(0.1),) * rivals, margin=0.1)
            yield _same(world, schedule, run(world, schedule, experiments))
    yield "differences of one and two standard deviations: share of cells found, mean seeds", True
    for effect in (1, 2):
        for rivals in RIVALS:
            for schedule in (fixed(6), fixed(12), planned(6, 9, 12), unplanned(6, (6, 9, 12))):
                world = World("gaussian", (effect * PAIR_SD,) * rivals)
                yield _power(effect, world, schedule, run(world, schedule, experiments // 3))


def _name(world: World, schedule: Schedule) -> str:
    rivals = len(world.effects)
    return f"{world.noise:10s} {rivals} rival{'s' * (rivals > 1)}, {schedule.name:44s}"


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


def _power(effect: int, world: World, schedule: Schedule, tally: Tally) -> tuple[str, bool]:
    share, error = Tally.rate(tally.decided, tally.cells)
    seeds = tally.seeds / tally.cells
    text = f"{effect} sd {_name(world, schedule)} {100 * share:5.1f} +- {100 * error:.1f} %, {seeds:.1f} seeds"
    return text, bool(np.isfinite(share))


if __name__ == "__main__":
    sys.exit(main())
