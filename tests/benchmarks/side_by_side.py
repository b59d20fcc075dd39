"""What the rows of the scoreboard share: a gate first, then ours and the peers in turn, and a ratio with its spread.

A row is a file with `ROW`, its number; `main(report)`, which prints and returns its results; and gates that the tests
call, too. Work is counted in CPU seconds of this process and its children, since the machine is shared.
"""

from __future__ import annotations

import importlib.util
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Report = Callable[[str], None]
Work = Callable[[], float]
"""Does some work and says how many units (images, steps, calls) it was."""


@dataclass(frozen=True)
class Spent:
    """By one case in one round, for each unit of its work."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Ratio:
    """A peer's cost over ours, round by round."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, theirs: Sequence[Spent], ours: Sequence[Spent]) -> Ratio:
        """In CPU seconds per unit."""
        found = [their.cpu_s / our.cpu_s for their, our in zip(theirs, ours, strict=True)]
        return cls(statistics.median(found), min(found), max(found))

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.least:.3g} .. {self.most:.3g}]"


@dataclass(frozen=True)
class Unit:
    """In which words a cost is said: `us per image` is seconds times 1e6."""

    name: str
    per_s: float


@dataclass(frozen=True)
class Result:
    """One measure beside one peer."""

    row: int
    measure: str
    peer: str
    goal: float
    """The ratio that is wanted."""
    unit: Unit
    ours: float
    """CPU cost in the unit, the median of all rounds."""
    theirs: float | None = None
    """None: the peer is not installed."""
    ratio: Ratio | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None: nobody to compare with."""
        return None if self.ratio is None else self.ratio.median >= self.goal

    def __str__(self) -> str:
        ours = f"row {self.row}, {self.measure}: {self.ours:.3g} {self.unit.name}"
        if self.theirs is None or self.ratio is None:
            return f"{ours}; {self.peer}: not installed"
        return (
            f"{ours}; {self.peer} {self.theirs:.3g}: ratio {self.ratio}, goal {self.goal:g}"
            f"{'' if self.reached else ' (not reached)'}"
        )


def gate(report: Report, what: str, found: float, most: float) -> None:
    """What must hold before a speed counts. AssertionError where it does not."""
    assert found <= most, f"{what}: {found:.3g}, and at most {most:g} is allowed"
    report(f"  gate, {what}: {found:.2g}, at most {most:g}")


def installed(package: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(package) is not None


def one_thread() -> None:
    """For every case, whatever does its arithmetic."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def alternate(
    cases: Mapping[str, Work], rounds: int, warm: int = 1, clock: Callable[[], float] = cpu_s
) -> dict[str, list[Spent]]:
    """Each case once a round, all in this process; the first `warm` rounds are not counted. `clock`: CPU seconds."""
    spent: dict[str, list[Spent]] = {name: [] for name in cases}
    for number in range(-warm, rounds):
        for name, work in cases.items():
            cpu, wall = clock(), time.perf_counter()
            units = work()
            used = Spent((clock() - cpu) / units, (time.perf_counter() - wall) / units)
            if number >= 0:
                spent[name].append(used)
    return spent


def results(
    row: int,
    measure: str,
    ours: str,
    spent: Mapping[str, Sequence[Spent]],
    goals: Mapping[str, float],
    unit: Unit,
) -> list[Result]:
    """The case `ours` beside every peer of `goals`; one that nobody ran is not installed."""
    cost = {
        name: unit.per_s * statistics.median(one.cpu_s for one in found)
        for name, found in spent.items()
    }
    return [
        Result(
            row, measure, peer, goal, unit, cost[ours], cost.get(peer),
            Ratio.of(spent[peer], spent[ours]) if peer in spent else None,
        )
        for peer, goal in goals.items()
    ]  # fmt: skip


def compared(
    row: int,
    measure: str,
    ours: Work,
    peers: Mapping[str, tuple[Work | None, float]],
    unit: Unit,
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float] = cpu_s,
) -> list[Result]:
    """Ours beside every peer in turn: its work, None where it is not installed, and the ratio that is wanted."""
    there = {name: work for name, (work, _) in peers.items() if work is not None}
    spent = alternate({"ours": ours, **there}, rounds, warm, clock)
    return results(row, measure, "ours", spent, {name: goal for name, (_, goal) in peers.items()}, unit)  # fmt: skip
