"""Shared fixtures: one thread per test process, and a trial that trains in a second."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def toy() -> dict[str, Any]:
    """A complete trial, small."""
    return toy_trial()


def toy_trial() -> dict[str, Any]:
    """A complete trial on points in the plane: 40 steps, four evaluations, well under a second."""
    return {
        "data": {"kind": "gaussians", "examples": 512},
        "model": {"kind": "mlp", "width": 32, "depth": 1},
        "optimizer": {"lr": 3e-3},
        "ema": {"kind": "ramp", "decay": 0.9},
        "train": {"kimg": 2.56, "batch_size": 64},
        "evaluation": {
            "evaluations": 4,
            "features": {"kind": "pixels"},
            "full": {"images": 256, "steps": 8},
            "rung": {"images": 64, "steps": 4},
        },
    }
