"""How many images a second does the training loop train, beside public loops over the same network?

Whole steps of ours and of the peers (`public_loops`) on the same folder of images, in float32 and, where arithmetic
is what takes the time, in bf16; in float32 also with a compiled network, whose graphs are made (or found) before
anything is timed. Row 1's gate holds the loss curves together. Ours reads its losses where a point of
the curve is due; evaluations and checkpoints, which the peers' steps do not have either, are not counted.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tests.benchmarks.host import MOST_APART, curves, folder
from tests.benchmarks.public_loops import peers
from tests.benchmarks.side_by_side import Report, Result, Unit, Work, compared, gate, one_thread
from tests.benchmarks.trained_alike import (
    COMPUTE_BOUND,
    HOST_BOUND,
    QUICKSTART,
    Loop,
    Ours,
    Setting,
)

ROW = 2
UNIT = Unit("us per image", 1e6)
ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """A network, and what is wanted of it."""

    setting: Setting
    precision: str
    steps: int
    """In a round."""
    goal: float
    compiled: bool = False
    """Ours with `train.compile`; the peers' loops are as they are published."""

    @property
    def name(self) -> str:
        """What is measured."""
        return f"{self.setting.name}, {self.precision}{', compiled' * self.compiled}"


CASES = (
    Case(QUICKSTART, "fp32", 5, 1.0),
    Case(HOST_BOUND, "fp32", 10, 2.0),
    Case(QUICKSTART, "fp32", 5, 1.0, compiled=True),
    Case(HOST_BOUND, "fp32", 10, 2.0, compiled=True),
    Case(COMPUTE_BOUND, "fp32", 1, 1.0),
    Case(COMPUTE_BOUND, "bf16", 1, 1.4),
)


def main(
    report: Report = print, cases: tuple[Case, ...] = CASES, rounds: int = ROUNDS
) -> list[Result]:
    """Print every case beside every peer, with the images a second of ours."""
    one_thread()
    found = []
    for case in cases:
        setting = case.setting
        if case.steps == 1:  # a folder that is decoded in a blink beside a step of a second
            setting = dataclasses.replace(setting, count=256)
        with folder(setting) as (images, place):
            if case.precision == "fp32":
                apart = curves(setting, images, place, 2 * case.steps, compiled=case.compiled)
                gate(report, f"{case.name}: loss curves", apart, MOST_APART)
            mine = Ours(setting.trial(images, case.precision, compiled=case.compiled), place)
            beside: dict[str, tuple[Work | None, float]] = {
                name: (None if loop is None else _work(loop, case), case.goal)
                for name, loop in peers(setting, images, place).items()
            }
            found += compared(ROW, case.name, _work(mine, case), beside, UNIT, rounds)
        for one in found[-len(beside) :]:
            report(str(one))
        report(f"  ours: {1e6 / found[-1].ours:.0f} images per CPU second")
    return found


def _work(loop: Loop, case: Case) -> Work:
    def work() -> float:
        loop.steps(case.steps)
        return case.steps * case.setting.batch

    return work
