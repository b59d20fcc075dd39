"""What Ray and MLflow add: seconds from command to first training step, and seconds per trial beyond its own.

Runs a small digits sweep, `python -m service run`, once with one TorchTrainer per trial and once with
`launcher: inproc`, in a fresh home without a server. The feature extractor is trained beforehand, as it
is in every run but the first.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from trainer.trial import TrialSpec
from trainer.yaml.source import read

TRIALS = 6
PRESET = Path(__file__).parents[2] / "experiments" / "presets" / "digits.yaml"


def experiment(launcher: str) -> dict[str, Any]:
    """Two cells, two seeds, 60 steps each."""
    return {
        "name": f"overhead-{launcher}",
        "base": str(PRESET),
        "arms": {
            "uniform": {},
            "under": {"diffusion.timesteps": {"kind": "p2", "gamma": 0.5, "k": 1.0}},
        },
        "set": {"train.kimg": 7.68},
        "seeds": TRIALS // 2,
        "compare": {"metric": "eval/fid", "baseline": "uniform"},
        "launcher": launcher,
    }


def measure(launcher: str, home: Path) -> dict[str, float]:
    """Run the sweep and read the trials' own clocks."""
    spec = TrialSpec.model_validate(read(PRESET).data)
    spec.evaluation.features.build(spec.data.load(home), home / "runs" / "cache")
    file = home / "experiment.yaml"
    file.write_text(json.dumps(experiment(launcher)))
    environment = {**os.environ, "DIFFSWEEP_HOME": str(home / "runs"), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    began = time.time()
    subprocess.run(
        [sys.executable, "-m", "service", "run", str(file)],
        env=environment, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    wall = time.time() - began
    results = [
        json.loads(path.read_text()) for path in (home / "runs" / "trials").glob("*/result.json")
    ]
    own = sum(result["seconds"] + result["eval_seconds"] for result in results)
    slots = min(psutil.cpu_count() or 1, len(results))
    first_step = min(result["started_s"] for result in results) - began
    trained = max(path.stat().st_mtime for path in (home / "runs" / "trials").glob("*/result.json"))
    return {
        "first_step_s": first_step,
        "per_trial_s": ((trained - began - first_step) * slots - own) / len(results),
        "end_s": began + wall - trained,
        "wall_s": wall,
        "own_s": own,
    }


def main(report: Callable[[str], None] = print) -> dict[str, dict[str, float]]:
    """Print the overheads of both launchers."""
    measured = {}
    for launcher in ("train", "inproc"):
        with tempfile.TemporaryDirectory(prefix="diffsweep-bench-") as folder:
            numbers = measured[launcher] = measure(launcher, Path(folder))
        report(
            f"overhead, launcher: {launcher}: {numbers['first_step_s']:.1f} s from command to first training "
            f"step; from then on {numbers['per_trial_s']:.1f} slot-seconds per trial beyond its own training and "
            f"evaluation; {numbers['end_s']:.1f} s from the last result to the report "
            f"({TRIALS} trials, {numbers['wall_s']:.0f} s wall, {numbers['own_s']:.0f} s of their own)"
        )
    return measured
