"""How long does a person wait for a command? CPU seconds of each, split into imports and work, in a home with results.

Seconds are the processor's, so that neighbours on the machine add little; imports are all that is done inside the
outermost `import`.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from service.experiment import Experiment
from service.settings import Settings
from tests.service.toy_experiment import EXPERIMENT, TOY
from trainer.loop import train

PROGRAM = """
import builtins, importlib, sys, time
spent, depth = 0.0, 0
def timed(original):
    def importing(*args, **kwargs):
        global spent, depth
        depth += 1
        began = time.process_time() if depth == 1 else 0.0
        try:
            return original(*args, **kwargs)
        finally:
            depth -= 1
            if depth == 0:
                spent += time.process_time() - began
    return importing
builtins.__import__ = timed(builtins.__import__)
importlib.import_module = timed(importlib.import_module)
try:
    from service.cli import main
    main()
finally:
    print("IMPORTS", spent, "OF", time.process_time(), file=sys.stderr)
"""
COMMANDS = ("--help", "validate", "show", "plan", "compare", "report")
TIMES = 3


def prepare(folder: Path) -> None:
    """A small experiment with a control, all of it trained."""
    (folder / "toy.yaml").write_text(TOY)
    (folder / "x.yaml").write_text(EXPERIMENT + "controls: equal_objective\n")
    settings = Settings(home=folder / "runs")
    for trial in Experiment.from_yaml(folder / "x.yaml", home=settings.home).trials:
        list(train(trial.spec, settings.trial(trial.key), cache=settings.cache, device="cpu"))


def run(folder: Path, command: str) -> tuple[float, float, float]:
    """CPU seconds of imports, all CPU seconds, and wall seconds of one command."""
    words = [command] if command.startswith("-") else [command, "x.yaml"]
    root = str(Path(__file__).parents[2])
    environment = {
        **os.environ, "PYTHONPATH": root, "DIFFSWEEP_HOME": str(folder / "runs"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    wall = time.perf_counter() - began
    _, imports, _, cpu = done.stderr.split()[-4:]
    return float(imports), float(cpu), wall


def main(report: Callable[[str], None] = print) -> None:
    """Print a line for each command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for command in COMMANDS:
            _, first, _ = run(folder, command)
            runs = [run(folder, command) for _ in range(TIMES)]
            imports, cpu, wall = (median(column) for column in zip(*runs, strict=True))
            report(
                f"startup, {command}: {cpu:.1f} CPU-s ({imports:.1f} of them imports, {cpu - imports:.1f} work), "
                f"{wall:.1f} s wall; the first time {first:.1f} CPU-s"
            )
