"""How many images does it take to tell two cells apart? Shared noise and seeds beside independent ones, on real trials.

Two schedules are trained with three seeds each and measured from twelve noises. Images for a given confidence
are in proportion to the variance of the difference: with independent noise the sum of both variances, with shared
noise what is left of it. Of the seeds that is the variance of differences at one noise for all.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.side_by_side import Report, one_thread
from trainer.distributed import World
from trainer.loop import train
from trainer.trained import Trained
from trainer.trial import TrialSpec

ROW = 10
GOAL = 5.0
SEEDS, NOISES, IMAGES, STEPS = 3, 12, 500, 15
PRESET = Path(__file__).parents[2] / "experiments" / "presets" / "digits.yaml"
CELLS: dict[str, list[str]] = {
    "cosine": [],
    "linear": ["diffusion.schedule={kind: linear_beta, steps: 1000}"],
}


def spec(cell: str, seed: int) -> TrialSpec:
    """The quickstart's trial, measured at its end alone."""
    changes = [f"seed={seed}", "evaluation.evaluations=1", f"evaluation.full.steps={STEPS}"]
    return TrialSpec.from_yaml(PRESET, [*CELLS[cell], *changes])


def measured(folder: Path, report: Report) -> NDArray[np.float64]:
    """FID [cell, seed, noise]."""
    found = np.empty((len(CELLS), SEEDS, NOISES))
    for c, cell in enumerate(CELLS):
        for seed in range(SEEDS):
            where = folder / f"{cell}-{seed}"
            list(train(spec(cell, seed), where, cache=folder / "cache", device="cpu"))
            found[c, seed] = noises(Trained.load(where, "cpu"), folder / "cache")
        report(f"  {cell}: FID {found[c].mean():.3f} of {IMAGES} images")
    return found


def noises(trained: Trained, cache: Path) -> list[float]:
    """FID from each of the noises."""
    full = trained.trial.evaluation.full.model_copy(update={"images": IMAGES})
    values = []
    for noise in range(NOISES):
        changes: dict[str, Any] = {"full": full, "noise_seed": 1000 + noise, "rung": None}
        evaluator = trained.evaluator(trained.trial.evaluation.model_copy(update=changes), cache)
        metrics = evaluator.measure(trained.network, "full", World(0, 1)).metrics
        values.append(metrics["eval/fid"])
    return values


def images_saved(found: NDArray[np.float64]) -> list[float]:
    """Of each seed: images with independent noise over images with shared noise, for one confidence."""
    one, other = found
    apart = one.var(axis=1, ddof=1) + other.var(axis=1, ddof=1)
    return [float(ratio) for ratio in apart / (one - other).var(axis=1, ddof=1)]


def main(report: Report = print) -> None:
    """Train, measure, say."""
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), report)
    ratios = images_saved(found)
    middle = statistics.median(ratios)
    report(
        f"row {ROW}, shared noise: {middle:.1f} times fewer images [{min(ratios):.1f} .. {max(ratios):.1f}] than with "
        f"independent noise, goal {GOAL:g}{'' if middle >= GOAL else ' (not reached)'}"
    )
    one, other = found.mean(axis=2)
    apart = one.var(ddof=1) + other.var(ddof=1)
    report(
        f"  shared training seeds ({SEEDS}): the variance of the difference is {apart / (one - other).var(ddof=1):.1f} "
        "times smaller than that of independent ones"
    )
