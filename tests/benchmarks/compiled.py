"""What does `train.compile` cost before it saves? A first trial, a second one in its process, and one in a new process.

Each trains two steps of the quickstart's network and asks its average once, as an evaluation does. What the first calls
take beyond later ones is the price of compiling; the cache is that of the home, empty at first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.benchmarks.side_by_side import Report, cpu_s, gate, one_thread
from tests.benchmarks.trained_alike import QUICKSTART, Ours
from trainer.compiling import eager

SAMPLES = 250
MOST_APART = 1e-4
"""Of the average's answers from eager ones, as a share of their size."""
Price = tuple[float, float]
"""CPU and wall seconds."""


def trial(folder: Path, seed: int) -> tuple[Price, float]:
    """What compiling took, and how far the average's answer is from the eager one."""
    spec = QUICKSTART.trial(folder / "images", compiled=True)
    ours = Ours(spec.model_copy(update={"seed": seed}), folder)
    average = ours.training.average.network
    x = torch.randn(SAMPLES, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    told = torch.full((SAMPLES,), 0.5)

    def work() -> torch.Tensor:
        ours.steps(1)
        with torch.inference_mode():
            return average(x, told)

    spent = []
    for _ in range(3):
        began = cpu_s(), time.perf_counter()
        answer = work()
        spent.append((cpu_s() - began[0], time.perf_counter() - began[1]))
    with torch.inference_mode():
        plain = eager(average)(x, told)
    apart = float((answer - plain).abs().max() / plain.abs().max())
    return (spent[0][0] - spent[-1][0], spent[0][1] - spent[-1][1]), apart


def process(folder: Path) -> list[tuple[Price, float]]:
    """Two trials, one after the other, in a process of their own."""
    code = "import sys; from tests.benchmarks import compiled; compiled.child(sys.argv[1])"
    said = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [((one[0], one[1]), one[2]) for one in json.loads(said.splitlines()[-1])]


def child(folder: str) -> None:
    """Of `process`."""
    one_thread()
    found = [trial(Path(folder), seed) for seed in (0, 1)]
    print(json.dumps([[*price, apart] for price, apart in found]))


def main(report: Report = print) -> None:
    """Print what each of them took."""
    one_thread()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        QUICKSTART.images(folder)
        first, second = process(folder)
        new, _ = process(folder)
    gate(report, "the average's answers, from eager ones", first[1], MOST_APART)
    said = {
        "the first trial compiles": first[0],
        "the second trial in its process": second[0],
        "a trial in a new process": new[0],
    }
    for what, (cpu, wall) in said.items():
        report(f"compiling, {QUICKSTART.name}: {what}: {cpu:.1f} CPU s, {wall:.1f} s")
    report(f"  a new process: {first[0][0] / new[0][0]:.1f} times less than the first trial")
