"""How much does a trial cost that shares a program with others (`launcher: ensemble`), beside trials one after another?

K seeds of a network in one process: as one program, and each with its own, in turns. K processes cost what one after
another costs, and a start each. A small network gains, since what it costs is the launch of its operations; where
arithmetic is what costs, nothing is gained on a processor, and no goal is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.host import folder
from tests.benchmarks.side_by_side import Report, Result, Unit, Work, compared, gate, one_thread
from tests.benchmarks.trained_alike import HOST_BOUND, QUICKSTART, Ours, Setting
from trainer.ensemble import Ensemble

ROW = 11
UNIT = Unit("ms per trial's step", 1e3)
ROUNDS = 5
MOST_APART = 1e-4
"""Of a loss, relative, after the steps that are compared: sums in another order."""
SMALL = Setting(
    "small U-Net, batch 16", {"kind": "unet", "channels": [8, 16], "blocks": 1}, 3, 8, 16
)


@dataclass(frozen=True)
class Case:
    """A network, how many trials of it, and what is wanted."""

    setting: Setting
    together: int
    goal: float
    steps: int = 4
    """In a round."""


CASES = (
    Case(HOST_BOUND, 4, 1.3),
    Case(HOST_BOUND, 16, 2.5),
    Case(SMALL, 4, 1.3),
    Case(SMALL, 16, 2.5),
    Case(QUICKSTART, 4, 0.0, 1),
)


def main(
    report: Report = print, cases: Sequence[Case] = CASES, rounds: int = ROUNDS
) -> list[Result]:
    """Print what a step of one trial costs, of K that share a program, and of K in turns."""
    one_thread()
    found: list[Result] = []
    for case in cases:
        setting = case.setting
        with folder(setting) as (images, place):
            together, alone = (_trials(setting, images, place, case.together) for _ in range(2))
            ensemble = Ensemble([one.training for one in together])
            cases_of = {"ours": _joint(ensemble, case), "in turns": _in_turns(alone, case)}
            for work in cases_of.values():
                for _ in range(3):
                    work()
            apart = max(_apart(a, b) for a, b in zip(together, alone, strict=True))
            gate(report, f"{setting.name}: losses of {case.together} trials", apart, MOST_APART)
            found += compared(
                ROW,
                f"{setting.name}, {case.together} trials",
                cases_of["ours"],
                {"one after another": (cases_of["in turns"], case.goal)},
                UNIT,
                rounds,
            )
            report(str(found[-1]))
    return found


def _trials(setting: Setting, images: Path, place: Path, count: int) -> list[Ours]:
    """Of so many seeds."""
    trial = setting.trial(images)
    return [Ours(trial.model_copy(update={"seed": seed}), place) for seed in range(count)]


def _joint(ensemble: Ensemble, case: Case) -> Work:
    def work() -> float:
        for _ in range(case.steps):
            ensemble.step()
            for training in ensemble.trainings:
                training.check()
                if training.at_loss_point:
                    training.read_losses()
        return case.steps * case.together

    return work


def _in_turns(alone: Sequence[Ours], case: Case) -> Work:
    def work() -> float:
        for one in alone:
            one.steps(case.steps)
        return case.steps * case.together

    return work


def _apart(one: Ours, other: Ours) -> float:
    """Largest relative difference of their losses."""
    mine, theirs = _losses(one), _losses(other)
    assert mine
    return max(abs(a - b) / abs(b) for a, b in zip(mine, theirs, strict=True))


def _losses(one: Ours) -> list[float]:
    """The points of the curve, and what came after them."""
    training = one.training
    points = [shown["train/loss"] for _, shown in training.progress.series]
    return [*points, *(float(loss) for loss in training._pending)]
