"""How long does a person wait for a command? CPU seconds of each, split into imports and work, in a home with results.

Imports are the share that Python's own `-X importtime` counts in a second run. Processor seconds are of the whole
process, so that neighbours on the machine add little.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from service.experiment import Experiment
from service.settings import Settings
from tests.service.toy_experiment import EXPERIMENT, TOY
from trainer.loop import train

COMMANDS = ("--help", "validate", "show", "plan", "compare", "report")
TIMES = 3


def prepare(folder: Path) -> None:
    """A small experiment with a control, all of it trained."""
    (folder / "toy.yaml").write_text(TOY)
    (folder / "x.yaml").write_text(EXPERIMENT + "controls: equal_objective\n")
    settings = Settings(home=folder / "runs")
    for trial in Experiment.from_yaml(folder / "x.yaml", home=settings.home).trials:
        list(train(trial.spec, settings.trial(trial.key), cache=settings.cache, device="cpu"))


def run(folder: Path, command: str, *options: str) -> tuple[float, float, str]:
    """CPU and wall seconds of one command, and what it said on standard error."""
    words = [command] if command.startswith("-") else [command, "x.yaml"]
    root = str(Path(__file__).parents[2])
    environment = {
        **os.environ, "PYTHONPATH": root, "DIFFSWEEP_HOME": str(folder / "runs"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *options, "-m", "service", *words],
        cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, done.stderr


def imports_share(folder: Path, command: str) -> float:
    """Of the command's CPU seconds."""
    cpu, _, text = run(folder, command, "-X", "importtime")
    micro = sum(int(own) for own in re.findall(r"^import time:\s+(\d+) \|", text, re.MULTILINE))
    return min(1.0, micro / 1e6 / cpu)


def main() -> None:
    """Print a line for each command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for command in COMMANDS:
            first, *_ = run(folder, command)
            cpu, wall = (
                median(both)
                for both in zip(*[run(folder, command)[:2] for _ in range(TIMES)], strict=True)
            )
            imports = imports_share(folder, command) * cpu
            print(
                f"startup, {command}: {cpu:.1f} CPU-s ({imports:.1f} of them imports, {cpu - imports:.1f} work), "
                f"{wall:.1f} s wall; the first time {first:.1f} CPU-s",
                flush=True,
            )
