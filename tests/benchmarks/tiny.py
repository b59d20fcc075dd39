"""A trial so small that what is measured is everything else."""

from typing import Any

TINY: dict[str, Any] = {
    "data": {"kind": "gaussians", "examples": 256},
    "model": {"kind": "mlp", "width": 16, "depth": 1},
    "ema": {"kind": "ramp", "decay": 0.9},
    "train": {"kimg": 1.28, "batch_size": 64},
    "evaluation": {
        "evaluations": 2,
        "features": {"kind": "pixels"},
        "full": {"images": 64, "steps": 4},
        "rung": {"images": 32, "steps": 2},
    },
}
