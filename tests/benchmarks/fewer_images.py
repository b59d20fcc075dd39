"""How much training does it take to find the best cell? Policies beside training every cell to its end.

First on the curves of 24 recorded trainings (digits, learning rates over two decades), in many random orders; then by a
real sweep of twelve learning rates, trained once whole and once under the policy, whose regret is to be no more than
what another seed changes. The cost is images seen.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from service.experiment import Experiment
from service.policy import Halving, Median, PlanPolicy, Racing
from tests.benchmarks.side_by_side import Report, one_thread
from tests.service import policy as beside
from tests.service.by_hand import Driver
from tests.service.policy.simulated import Outcome, design, run
from trainer.record import Record

ROW = 9
GOAL, KEPT = 3.5, 0.95
ORDERS, BUDGET = 200, 76_800
POLICIES: dict[str, PlanPolicy] = {
    "halving, defaults": Halving(),
    "halving, a quarter at 1/16 and 1/4": Halving(reduction=4, at=(1 / 16, 1 / 4)),
    "halving, half at 1/16 to 1/2": Halving(reduction=2, at=(1 / 16, 1 / 8, 1 / 4, 1 / 2)),
    "median": Median(),
    "racing": Racing(),
}
SEEDS = 4
"""Of the best cell, which say what a seed changes."""
RATES = tuple(2.5e-5 * 2**k for k in range(12))
"""The first is the baseline, which every policy trains to its end: of few cells that alone is a large part."""
SWEEP: dict[str, Any] = {
    "base": str(Path(__file__).parents[2] / "experiments" / "presets" / "digits.yaml"),
    "axes": {"optimizer.lr": list(RATES)},
    "seeds": 1,
    "set": {
        "train.kimg": 28.8,
        "evaluation.evaluations": 5,
        "evaluation.full.images": 500,
    },
    "launcher": "inproc",
}


def recorded() -> dict[str, list[list[float]]]:
    """Of each training: the cheap FID at shares of its budget, and the full one."""
    found: dict[str, Any] = json.loads((Path(beside.__file__).parent / "recorded.json").read_text())
    return found


def outcomes(policy: PlanPolicy, orders: int = ORDERS) -> list[Outcome]:
    """Under a policy that sees the cheap curve, in random orders of the cells."""
    known = recorded()
    points = tuple(round(share * BUDGET) for share in known["shares"])  # type: ignore[call-overload]
    curves = {(f"c{i}", 0): values for i, values in enumerate(known["cheap"])}
    ends = {(f"c{i}", 0): values for i, values in enumerate(known["final"])}
    found = []
    for order in range(orders):
        cells = [cell for cell, _ in curves]
        random.Random(order).shuffle(cells)
        found.append(run(policy, design(cells, 1, points), curves, ends))
    return found


def replayed(report: Report, orders: int) -> None:
    """Every policy on the recorded curves."""
    ends = np.array(recorded()["final"])[:, -1]
    best = f"c{ends.argmin()}"
    for name, policy in POLICIES.items():
        found = outcomes(policy, orders if not isinstance(policy, Racing) else orders // 5)
        cost = mean(one.cost for one in found)
        kept = mean(best in one.finished for one in found)
        regret = mean(min(ends[int(c[1:])] for c in one.finished) - ends.min() for one in found)
        reached = 1 / cost >= GOAL and kept >= KEPT
        report(
            f"row {ROW}, 24 recorded cells, {name}: {1 / cost:.2f} times less training, the best kept in {kept:.0%}, "
            f"regret {regret:.3f} FID, goal {GOAL} and {KEPT:.0%}{'' if reached else ' (not reached)'}"
        )


def trained(home: Path, **changes: Any) -> tuple[int, dict[tuple[str, int], float]]:
    """Images that a real sweep saw, and the final FID of each cell and seed: infinite where it did not come to one."""
    file = home / "experiment.yaml"
    home.mkdir(exist_ok=True)
    file.write_text(json.dumps(SWEEP | {"name": "sweep"} | changes))
    experiment = Experiment.from_yaml(file, home=home)
    driver = Driver(experiment, home)
    list(driver.work())
    driver.close()
    seen, ended = 0, dict[tuple[str, int], float]()
    for one in experiment.trials:
        record = Record(home / "trials" / one.key)
        seen += max((report.images for report in record.reports()), default=0)
        metrics = {} if (result := record.result()) is None else result.metrics
        ended[one.cell, one.seed] = metrics.get("eval/fid", math.inf)
    return seen, ended


def real(report: Report) -> None:
    """The sweep whole, then under the policy that the recorded curves speak for."""
    policy = {"kind": "halving", "reduction": 4, "at": [1 / 16, 1 / 4]}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        whole, all_of_them = trained(place / "whole")
        part, few = trained(place / "part", policy=policy)
        best = min(all_of_them, key=lambda one: all_of_them[one])
        rate = RATES[list(all_of_them).index(best)]
        _, again = trained(place / "again", axes={"optimizer.lr": [rate]}, seeds=SEEDS)
    spread = stdev(again.values())
    regret = min(few.values()) - all_of_them[best]
    reached = whole / part >= GOAL and regret <= spread
    images = f"{whole / 1000:.1f} kimg whole, {part / 1000:.1f}"
    report(
        f"row {ROW}, a real sweep of {len(all_of_them)} learning rates: {images} "
        f"under halving (a quarter at 1/16 and 1/4): {whole / part:.2f} times less, regret {regret:.3f} FID "
        f"(another seed: {spread:.3f}), goal {GOAL}{'' if reached else ' (not reached)'}"
    )


def main(report: Report = print, orders: int = ORDERS) -> None:
    """Both."""
    one_thread()
    replayed(report, orders)
    real(report)
