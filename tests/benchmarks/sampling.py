"""What do a thousand samples of equal FID cost? Ours, in the presets' protocol, against diffusers' DDIMPipeline.

The quickstart's digits are trained once and exported; diffusers loads the folder and takes 50 DDIM steps. Ours takes
those of the preset's `full`, 8 of DPM-Solver++(2M) on a grid of log-SNR, in float32 and in bf16. The gate: ours are no
further from the data than the pipeline's, by the classifier's FID.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tests.benchmarks.side_by_side import Report, Result, Unit, Work, compared, gate, one_thread
from trainer.evaluation.generation import Generation, SamplePrecision
from trainer.exchange.card import Story
from trainer.exchange.pipeline import export
from trainer.loop import train
from trainer.trained import Trained
from trainer.trial import TrialSpec

ROW = 4
GOAL = 5.0
IMAGES, AT_ONCE, PEER_STEPS = 1000, 500, 50
ROUNDS = 3
MOST_WORSE = 0.1
UNIT = Unit("s per 1,000 images", 1000.0)
PRESET = Path(__file__).parents[2] / "experiments" / "presets" / "digits.yaml"
PRECISIONS: tuple[SamplePrecision, ...] = ("fp32", "bf16")
Samples = Callable[[int], Tensor]
"""So many of them, in [-1, 1], rounded to the data's values."""


def trained(place: Path, trial: TrialSpec) -> Trained:
    """The trial, trained under `place`."""
    for _ in train(trial, place / "trial", cache=place / "cache", device="cpu"):
        pass
    return Trained.load(place / "trial", "cpu")


def pipeline(model: Trained, place: Path) -> Samples:
    """diffusers' pipeline of the exported model."""
    import diffusers

    folder = export(model, place / "exported", Story("digits")).folder
    diffusers.utils.logging.set_verbosity_error()
    loaded = diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    loaded.set_progress_bar_config(disable=True)

    def sample(count: int) -> Tensor:
        made = []
        for first in range(0, count, AT_ONCE):
            images = loaded(
                batch_size=min(AT_ONCE, count - first),
                generator=torch.Generator().manual_seed(first),
                num_inference_steps=PEER_STEPS,
                use_clipped_model_output=True,
                output_type="np",
            ).images
            made.append(torch.from_numpy(images).permute(0, 3, 1, 2)[:, : model.codec.shape[0]])
        return model.codec.quantize(2.0 * torch.cat(made).float() - 1.0)

    return sample


def ours(model: Trained, way: Generation) -> Samples:
    """As an evaluation makes them."""
    return lambda count: model.generate(way, range(count))


def distance(model: Trained, images: Tensor, place: Path) -> float:
    """FID in the classifier's features."""
    evaluator = model.evaluator(model.trial.evaluation, place / "cache")
    return evaluator.measure_images(images).metrics["eval/fid"]


def main(report: Report = print, rounds: int = ROUNDS) -> list[Result]:
    """Print both precisions beside the pipeline."""
    one_thread()
    warnings.filterwarnings("ignore", module="diffusers")
    found = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = trained(place, TrialSpec.from_yaml(PRESET))
        theirs = pipeline(model, place)
        reached = distance(model, theirs(IMAGES), place)
        full = model.trial.evaluation.full
        for precision in PRECISIONS:
            way = full.model_copy(update={"images": IMAGES, "precision": precision})
            mine = ours(model, way)
            fid = distance(model, mine(IMAGES), place)
            report(f"  FID of the pipeline's {reached:.3f}, of ours in {precision} {fid:.3f}")
            gate(report, f"{precision}: FID above the pipeline's", fid - reached, MOST_WORSE)
            found += compared(
                ROW, f"samples in {precision}", _work(mine),
                {f"diffusers DDIMPipeline, {PEER_STEPS} steps": (_work(theirs), GOAL)},
                UNIT, rounds, warm=0,
            )  # fmt: skip
            report(str(found[-1]))
    return found


def _work(samples: Samples) -> Work:
    return lambda: float(len(samples(IMAGES)))
