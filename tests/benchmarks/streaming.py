"""Does a set of 16 GB train in a process of 2 GB? 1.28 million synthetic pictures of 64 x 64, sparse on disk.

A process of its own trains over the end of an epoch and passes through a part of the set as an evaluation does; its
peak of resident memory is what is measured, and how long a step waits for its batch.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from trainer.data.codec import Codec
from trainer.data.stored import Stored
from trainer.distributed import World
from trainer.training import Training
from trainer.trial import TrialSpec

COUNT, SHAPE = 1_281_167, (3, 64, 64)
LIMIT_GB = 2.0
STEPS, PASSAGE = 24, 20_000
TRIAL = {
    "data": {"kind": "digits"},
    "model": {"kind": "unet", "channels": [8, 8], "groups": 4, "attention": [], "blocks": 1, "classes": 1000},
    "train": {"kimg": 2000, "batch_size": 32, "label_dropout": 0.1},
    "evaluation": {"full": {"images": 64, "steps": 4}},
}  # fmt: skip


def sparse(file: Path) -> None:
    """A .npy that takes no room but where something is written: every 1000th picture."""
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(COUNT, *SHAPE))
    array[::1000] = 200


def measure(file: Path) -> dict[str, float]:
    """Train and pass; in a process that does nothing else."""
    torch.set_num_threads(1)
    labels = torch.arange(COUNT) % 1000
    names = tuple(str(number) for number in range(1000))
    codec = Codec(SHAPE, 255, names, tuple(torch.bincount(labels).tolist()))
    source = Stored(codec, file, COUNT, labels, "sparse").to(torch.device("cpu"))
    assert not source.resident, (
        "this machine has more than 64 GB free: set DIFFSWEEP_RESIDENT=never"
    )
    training = Training(TrialSpec.model_validate(TRIAL), source, World(0, 1))
    training.progress.images = (COUNT // 32 - STEPS // 2) * 32  # the epoch ends half-way
    waited, read = 0.0, source.read

    def timed(rows: torch.Tensor) -> torch.Tensor:
        nonlocal waited
        began = time.perf_counter()
        batch = read(rows)
        waited += time.perf_counter() - began
        return batch

    source.read = timed  # type: ignore[method-assign]
    began = time.perf_counter()
    for _ in range(STEPS):
        training.step()
    training.read_losses()
    trained, trained_waited = time.perf_counter() - began, waited
    began, seen = time.perf_counter(), 0
    for x in source.passage(500):
        seen += len(x)
        if seen >= PASSAGE:
            break
    passed = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "peak_gb": peak,
        "step_s": trained / STEPS,
        "waited_s": trained_waited / STEPS,
        "passage_img_per_s": seen / passed,
    }


def main(report: Callable[[str], None] = print) -> float:
    """Print and return the peak in GB; an AssertionError where it is beyond the limit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pictures.npy"
        sparse(file)
        size = file.stat().st_size / 1e9
        finished = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.streaming", str(file)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    found = json.loads(finished.stdout.splitlines()[-1])
    report(
        f"{COUNT:,} pictures, {size:.1f} GB: peak memory {found['peak_gb']:.2f} GB of {LIMIT_GB:g}; a step of 32 takes "
        f"{found['step_s'] * 1000:.0f} ms, {found['waited_s'] * 1000:.1f} of them waiting for pictures; a passage "
        f"serves {found['passage_img_per_s']:,.0f} images/s"
    )
    assert found["peak_gb"] < LIMIT_GB
    return float(found["peak_gb"])


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
