"""What a timestep sampler and a weighting add to a training step, over uniform times and weight one.

Times the part of the quickstart's step that they decide (noise levels and loss weights of a batch of
128) for every member, and states it relative to the whole step, measured in the same process.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch

from trainer.diffusion.process import Diffusion, training_levels
from trainer.diffusion.timestep import Law, Uniform
from trainer.diffusion.weighting import AnyWeighting, Simple
from trainer.distributed import World
from trainer.training import Training
from trainer.trial import TrialSpec

BATCH = 128
REPEATS = 60
NETWORKS: dict[str, dict[str, Any]] = {
    "quickstart": {"channels": [24, 48], "blocks": 1},
    "host-bound": {"channels": [8, 8], "blocks": 2},
}


def trial(model: dict[str, Any]) -> TrialSpec:
    """The quickstart's step, of some U-Net."""
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": {"kind": "unet", **model},
            "train": {"kimg": 12.8, "batch_size": BATCH},
            "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 2, "steps": 1}},
        }
    )


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of one call after a warm-up."""
    times = []
    for i in range(repeats + 3):
        began = time.perf_counter()
        work()
        if i >= 3:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def step_s() -> float:
    """Seconds of one training step of the quickstart's network."""
    spec = trial(NETWORKS["quickstart"])
    training = Training(spec, spec.data.load(Path()), World(0, 1))
    return median_s(training.step, 25)


def levels_s(diffusion: Diffusion) -> float:
    """Seconds to draw a batch's noise levels and weigh them."""
    u = (torch.arange(BATCH, dtype=torch.float64) + 0.5) / BATCH
    return median_s(lambda: diffusion.loss_weight(training_levels(diffusion, u)), REPEATS)


def main(report: Callable[[str], None] = print) -> float:
    """Print the most expensive members; returns the largest share of a step that one adds."""
    torch.set_num_threads(1)
    whole, plain = step_s(), levels_s(Diffusion())
    samplers = [member() for member in get_args(Law) if member is not Uniform]
    weightings = [
        member() for member in get_args(get_args(AnyWeighting)[0]) if member is not Simple
    ]
    added = {
        **{f"timesteps {s.kind}": levels_s(Diffusion(timesteps=s)) - plain for s in samplers},
        **{f"weighting {w.kind}": levels_s(Diffusion(weighting=w)) - plain for w in weightings},
    }
    shares = sorted(((seconds / whole, name) for name, seconds in added.items()), reverse=True)
    report(
        f"objective: of a training step of {1e3 * whole:.1f} ms, uniform times and weight one take "
        f"{1e3 * plain:.2f} ms; a member adds at most {shares[0][0]:.2%} ({shares[0][1]}), "
        f"in the median {statistics.median(share for share, _ in shares):.2%}"
    )
    return shares[0][0]
