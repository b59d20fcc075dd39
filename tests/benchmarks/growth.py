"""What grows faster than what is asked for? One thing at a time: CPU seconds, the exponent between steps, peak memory.

Trials of one sweep (Ray, in process; of the driver), workers of one trial, images of an evaluation, runs in a report,
rows of a data set. Every step is a process of its own, so that its peak is its own. An exponent of 1 is in proportion;
below are fixed costs, above it a cost that grows by itself.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = 1.15
"""An exponent above this is called superlinear."""
FROM_S = 0.3
"""Steps that take less say nothing of growth."""
Thing = Callable[[int, Path], float]
"""Does it at a size, in an empty folder, and returns the CPU seconds that count."""


@dataclass(frozen=True)
class Step:
    """One thing at one size."""

    size: int
    cpu_s: float
    peak_mb: float

    def exponent(self, before: Step) -> float:
        """p where the cost grew as size^p since the step before."""
        return math.log(self.cpu_s / before.cpu_s) / math.log(self.size / before.size)

    def is_superlinear(self, before: Step) -> bool:
        """Whether it grew by more than in proportion, where it takes long enough to say so."""
        return self.exponent(before) > MOST and self.cpu_s >= FROM_S


def trials(size: int, folder: Path) -> float:
    """A sweep of tiny trials on a cluster of two nodes: what it takes the driver."""
    from service import launch
    from service.settings import Settings
    from tests.benchmarks.scale import cluster, experiment

    settings = Settings(home=folder / "home", tracking_uri=None)
    with cluster(2):
        launch.run(experiment(4, "inproc", "before"), settings)  # all is imported, MLflow is there
        began = time.process_time()
        outcome = launch.run(experiment(size, "inproc"), settings)
        spent = time.process_time() - began
    assert outcome.finished == size, outcome
    return spent


def workers(size: int, folder: Path) -> float:
    """One trial by so many workers, beyond what it takes them to start: the same images in all."""

    def trained(kimg: float) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size)]
        command += [
            "--master-port",
            "0",
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "localhost:0",
        ]
        command += [
            "-m",
            "trainer",
            "experiments/presets/digits.yaml",
            "--out",
            str(folder / f"{kimg}"),
        ]
        command += ["-o", f"train.kimg={kimg}", "-o", "evaluation.evaluations=1"]
        command += ["-o", "evaluation.full.images=64", "-o", "evaluation.rung=null"]
        command += ["-o", "evaluation.features={kind: pixels}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return -trained(1.28) + trained(14.08)


def images(size: int, folder: Path) -> float:
    """An evaluation of so many generated digits, by a small network in two steps, in the space of pixels."""
    import torch

    from trainer.distributed import World
    from trainer.evaluation.evaluator import Evaluator
    from trainer.training import Training
    from trainer.trial import TrialSpec

    preset = ROOT / "experiments" / "presets" / "digits.yaml"
    changes = ["model.channels=[8, 8]", "model.groups=4", "evaluation.features={kind: pixels}"]
    changes += [f"evaluation.full.images={size}", "evaluation.full.steps=2", "evaluation.rung=null"]
    trial = TrialSpec.from_yaml(preset, changes)
    source = trial.data.load(Path(), folder).to(torch.device("cpu"))
    training = Training(trial, source, World(0, 1))
    evaluator = Evaluator(
        trial.evaluation, training.diffusion, source, folder, training.inputs, None
    )
    began = time.process_time()
    measured = evaluator.measure(training.average.network, "full", World(0, 1))
    assert measured.finite
    return time.process_time() - began


def runs(size: int, _folder: Path) -> float:
    """The report of ten cells."""
    from tests.benchmarks import page

    found, verdicts = page.large(seeds=size // page.CELLS)
    return page.built(found, verdicts)[1]


def _rows(size: int, folder: Path, resident: str) -> float:
    import numpy as np
    import torch

    from trainer.data.arrays import Arrays
    from trainer.data.batches import Batches

    file = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype="u1", shape=(size, 8, 8))
    for first in range(0, size, 10_000):
        part = file[first : first + 10_000]
        part[:] = np.random.default_rng(first).integers(0, 256, part.shape, "u1")
    file.flush()
    del file, part
    os.environ["DIFFSWEEP_RESIDENT"] = resident
    began = time.process_time()
    spec = Arrays(path=str(folder / "x.npy"), labels=None, size=8)
    source = spec.load(folder, folder / "cache").to(torch.device("cpu"))
    assert (source.resident, len(source)) == (resident == "always", size)
    batches = Batches(source, seed=0)
    for step in range(200):
        batches.draw(128 * step, 128)
    return time.process_time() - began


def streamed(size: int, folder: Path) -> float:
    """A data set is read for the first time and serves 200 batches, from the disk."""
    return _rows(size, folder, "never")


def resident(size: int, folder: Path) -> float:
    """The same from memory."""
    return _rows(size, folder, "always")


THINGS: dict[str, tuple[Thing, Sequence[int]]] = {
    "trials": (trials, (10, 30, 100, 300)),
    "workers": (workers, (1, 2, 4)),
    "images": (images, (1_000, 5_000, 50_000)),
    "runs": (runs, (10, 50, 200, 500)),
    "streamed": (streamed, (1_000, 10_000, 100_000, 1_000_000)),
    "resident": (resident, (1_000, 10_000, 100_000, 1_000_000)),
}


def peak_mb() -> float:
    """Of this process since it was executed, or of its largest child that has ended.

    `ru_maxrss` of a process begins with the memory of the one that forked it.
    """
    said = Path("/proc/self/status").read_text()
    mine = next(line for line in said.splitlines() if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(int(mine.split()[1]), children) / 1024


def step(name: str, size: int, timeout_s: float = 3600.0) -> Step:
    """In a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    for variable in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "DIFFSWEEP_HOME"):
        environment.pop(variable, None)
    with tempfile.TemporaryDirectory(prefix="ds-", dir="/tmp") as own:  # sockets need a short path
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.growth", name, str(size)], cwd=ROOT,
            env={**environment, "TMPDIR": own}, capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return Step(size, *json.loads(done.stdout.splitlines()[-1]))


def measured(name: str, size: int, before: Step | None) -> Step:
    """One step; a second time where the first is out of proportion, as a busy machine makes it: the cheaper counts."""
    found = step(name, size)
    if before is not None and found.is_superlinear(before):
        found = min(found, step(name, size), key=lambda one: one.cpu_s)
    return found


def told(name: str, now: Step, before: Step | None) -> str:
    """A step, what it grew by since the one before, and whether that is more than in proportion."""
    line = f"{name} {now.size:9,}: {now.cpu_s:8.2f} s, {now.peak_mb:6.0f} MB"
    if before is None:
        return line
    above = ", superlinear" if now.is_superlinear(before) else ""
    return f"{line}, exponent {now.exponent(before):.2f}{above}"


def main(report: Callable[[str], None] = print, names: Sequence[str] = tuple(THINGS)) -> None:
    """Every thing, step by step."""
    for name in names:
        work, sizes = THINGS[name]
        report(f"{name}: {(work.__doc__ or '').strip()}")
        before = None
        for size in sizes:
            now = measured(name, size, before)
            report(f"  {told(name, now, before)}")
            before = now


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        spent = THINGS[sys.argv[1]][0](int(sys.argv[2]), Path(place))
    print(json.dumps([spent, peak_mb()]))
