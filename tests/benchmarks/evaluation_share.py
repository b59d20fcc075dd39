"""Which share of its training does a trial spend on being measured? The quickstart's digits, a curve of 8 points.

Ours measures each point with 200 images and 6 steps (the preset's `rung`) and the end with 1,000 and 8 (`full`), in
float32 and in bf16. What people put together otherwise measures each point as it reports it: diffusers' pipeline with
50 steps, 1,000 images, and torchmetrics' FID, here in the same features. The gate: both name the same distance.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.benchmarks.sampling import PRESET, Samples, distance, pipeline, trained
from tests.benchmarks.side_by_side import (
    Ratio,
    Report,
    Result,
    Unit,
    Work,
    alternate,
    gate,
    installed,
    one_thread,
)
from trainer.data import Source
from trainer.distributed import World
from trainer.evaluation.protocol import Evaluation
from trainer.passes import Passes
from trainer.trained import Trained
from trainer.training import Training
from trainer.trial import TrialSpec

ROW = 7
POINTS, IMAGES = 8, 1000
STEPS = 30
"""Of training in a round: all of its steps are alike."""
ROUNDS = 3
GOAL = 10.0
"""Training over evaluation: 10 %."""
MOST_APART = 1e-3
PEER = "diffusers DDIMPipeline + torchmetrics"


class _Features(nn.Module):
    """The extractor as torchmetrics wants it."""

    def __init__(self, extractor: Any, width: int) -> None:
        super().__init__()
        self.extractor, self.num_features = extractor, width

    def forward(self, images: Tensor) -> Tensor:
        return self.extractor.features(images)


def measured_by_torchmetrics(model: Trained, source: Source, place: Path) -> Any:
    """Images [N, ...] -> FID in the classifier's features; the real images are known already."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    space = model.trial.evaluation.features
    extractor = space.build(source, place / "cache")
    width = space.dimensions(model.codec.shape)
    assert width is not None
    metric = FrechetInceptionDistance(_Features(extractor, width), reset_real_features=False)
    every = source.codec.scale(source.read(torch.arange(len(source))))
    metric.update(every, real=True)

    def fid(images: Tensor) -> float:
        metric.reset()
        for part in torch.split(images, 250):
            metric.update(part, real=False)
        return float(metric.compute())

    return fid


def curve(model: Trained, place: Path, precision: str) -> Work:
    """All that a trial measures: the cheap protocol at every point, the full one at the end."""
    spec = model.trial.evaluation
    assert spec.rung is not None
    changed = spec.model_dump() | {
        name: getattr(spec, name).model_dump() | {"precision": precision}
        for name in ("rung", "full")
    }
    evaluator = model.evaluator(Evaluation.model_validate(changed), place / "cache")

    def work() -> float:
        for _ in range(POINTS):
            evaluator.measure(model.network, "rung", World(0, 1))
        evaluator.measure(model.network, "full", World(0, 1))
        return 1.0

    return work


def steps(trial: TrialSpec, source: Source) -> Work:
    """Some steps of the training; they count as their share of all."""
    training = Training(trial, source, World(0, 1), Passes(trial, World(0, 1)))

    def work() -> float:
        for _ in range(STEPS):
            training.step()
        return STEPS / trial.steps()

    return work


def same_distance(report: Report, model: Trained, fid: Any, images: Tensor, place: Path) -> None:
    """torchmetrics and ours say the same of the same images."""
    apart = abs(fid(images) - distance(model, images, place))
    gate(report, "FID of the same images, against torchmetrics", apart, MOST_APART)


def main(report: Report = print, rounds: int = ROUNDS) -> list[Result]:
    """Print the shares of both precisions and of the peers' way."""
    one_thread()
    warnings.filterwarnings("ignore", module="diffusers")
    found = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        trial = TrialSpec.from_yaml(PRESET)
        short = TrialSpec.from_yaml(PRESET, ["train.kimg=1.28", "evaluation.evaluations=1"])
        model = trained(place, short)
        source = trial.data.load(Path(), place / "cache").to(torch.device("cpu"))
        cases: dict[str, Work] = {"training": steps(trial, source)}
        cases |= {one: curve(model, place, one) for one in ("fp32", "bf16")}
        if installed("torchmetrics"):
            fid, theirs = measured_by_torchmetrics(model, source, place), pipeline(model, place)
            same_distance(report, model, fid, theirs(250), place)
            cases[PEER] = _peer(theirs, fid)
        spent = alternate(cases, rounds, warm=0)
        for one in [name for name in cases if name != "training"]:
            share = Ratio.of(spent["training"], spent[one])
            seconds = {name: statistics.median(s.cpu_s for s in spent[name]) for name in spent}
            found.append(
                Result(
                    ROW, f"a curve of {POINTS} points, {one}", "its training", GOAL,
                    Unit("s", 1.0), seconds[one], seconds["training"], share,
                )
            )  # fmt: skip
            report(f"{found[-1]}; share {1.0 / share.median:.1%}")
    return found


def _peer(samples: Samples, fid: Any) -> Work:
    def work() -> float:
        fid(samples(IMAGES))
        return 1.0 / POINTS

    return work
