"""Does `plan` foretell what `run` takes? Three different sweeps, each in a fresh home.

First one of its trials in CPU time, alone: the cost model without the machine's other work. Then the whole sweep is
planned and run: predicted over actual device-hours (training and evaluation), wall time and disk, which is as good as
the machine is quiet. The extractor is trained beforehand, as it is in every run but the first.
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

from service.experiment import Experiment
from service.planning.measuring import measure, using_threads
from trainer.loop import train
from trainer.record import Record
from trainer.trial import TrialSpec
from trainer.yaml.source import read

PRESET = Path(__file__).parents[2] / "experiments" / "presets" / "digits.yaml"
FEATURES = {"kind": "classifier", "steps": 40}
UNDER = {"diffusion.timesteps": {"kind": "p2", "gamma": 0.5, "k": 1.0}}
POINTS: dict[str, Any] = {
    "data": {"kind": "gaussians", "modes": 8, "examples": 4096},
    "model": {"kind": "mlp", "width": 64, "depth": 3},
    "ema": {"kind": "ramp", "decay": 0.99},
    "train": {"kimg": 256, "batch_size": 128},
    "evaluation": {
        "evaluations": 40,
        "spacing": "even",
        "features": {"kind": "pixels"},
        "rung": {"images": 1000, "steps": 10},
        "full": {"images": 5000, "steps": 20},
    },
}
SWEEPS: dict[str, dict[str, Any]] = {
    "digits, TorchTrainer": {
        "name": "digits",
        "base": str(PRESET),
        "arms": {"uniform": {}, "under": UNDER},
        "set": {
            "train.kimg": 19.2,
            "evaluation.evaluations": 4,
            "evaluation.draws": 3,
            "evaluation.features": FEATURES,
        },
        "seeds": 3,
        "compare": {"metric": "eval/fid", "baseline": "uniform"},
        "launcher": "train",
    },
    "points, 40 evaluations": {
        "name": "points",
        "base": POINTS,
        "arms": {"uniform": {}, "under": UNDER},
        "seeds": 3,
        "compare": {"metric": "eval/fid", "baseline": "uniform"},
        "launcher": "inproc",
    },
    "wider U-Net, seeds at once": {
        "name": "wider",
        "base": str(PRESET),
        "set": {
            "model.channels": [40, 80],
            "train.kimg": 12.8,
            "evaluation.evaluations": 3,
            "evaluation.full.steps": 30,
            "evaluation.features": FEATURES,
        },
        "arms": {"uniform": {}},
        "seeds": 6,
        "launcher": "inproc",
    },
}


def whole(sweep: dict[str, Any], folder: Path) -> dict[str, dict[str, float]]:
    """Hours, seconds and bytes, as predicted and as they were."""
    preset = read(PRESET).data
    preset["evaluation"]["features"] = FEATURES
    spec = TrialSpec.model_validate(preset)
    home = folder / "runs"
    spec.evaluation.features.build(spec.data.load(folder), home / "cache")
    (folder / "experiment.yaml").write_text(json.dumps(sweep))
    planned = _told("plan", folder)
    outcome = _told("run", folder)["outcome"]
    results = [json.loads(path.read_text()) for path in home.glob("trials/*/result.json")]
    predicted = {
        "hours": planned["cpu_hours"],
        "evaluation": planned["cpu_hours"] * planned["evaluation_share"],
        "wall": planned["wall_s"],
        "disk": planned["disk_bytes"],
    }
    took = sum(result["seconds"] + result["eval_seconds"] for result in results)
    actual = {
        "hours": took / 3600,
        "evaluation": sum(result["eval_seconds"] for result in results) / 3600,
        "wall": outcome["seconds"],
        "disk": sum(p.stat().st_size for p in home.glob("trials/**/*") if p.is_file()),
    }
    return {"predicted": predicted, "actual": actual}


def alone(sweep: dict[str, Any], folder: Path) -> tuple[float, float]:
    """CPU seconds of one trial's training and evaluation on one thread: predicted before and after it, and taken."""
    trial, cache = Experiment.from_mapping(sweep, home=folder).trials[0].spec, folder / "cache"
    source = trial.data.load(folder, cache)
    for space in trial.evaluation.spaces():
        space.build(source, cache)
    clock, time.perf_counter = time.perf_counter, time.process_time
    try:
        with using_threads(1):
            before = measure(trial, source, cache, "cpu", 1)
            list(train(trial, folder / "trial", cache=cache, device="cpu"))
            after = measure(trial, source, cache, "cpu", 1)
    finally:
        time.perf_counter = clock
    result = Record(folder / "trial").result()
    assert result is not None
    predicted = [sum(speed.seconds(trial, 1)) for speed in (before, after)]
    return sum(predicted) / 2, result.seconds + result.eval_seconds


def _told(verb: str, folder: Path) -> Any:
    environment = {**os.environ, "DIFFSWEEP_HOME": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-m", "service", verb, str(folder / "experiment.yaml"), "--json"],
        env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=900,
    )  # fmt: skip
    return json.loads(done.stdout)


def main(report: Callable[[str], None] = print) -> dict[str, dict[str, float]]:
    """Print predicted over actual for the three sweeps."""
    ratios = {}
    for name, sweep in SWEEPS.items():
        load = psutil.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="diffsweep-bench-") as folder:
            said, took = alone(sweep, Path(folder))
        report(
            f"price, {name}, one trial alone: predicted / actual {said / took:.2f} of {took:.0f} CPU-s"
        )
        with tempfile.TemporaryDirectory(prefix="diffsweep-bench-") as folder:
            measured = whole(sweep, Path(folder))
        predicted, actual = measured["predicted"], measured["actual"]
        one = ratios[name] = {part: predicted[part] / actual[part] for part in actual}
        report(
            f"price, {name}: predicted / actual {one['hours']:.2f} of {actual['hours'] * 60:.1f} CPU-minutes "
            f"({one['evaluation']:.2f} of {actual['evaluation'] * 60:.1f} in evaluation), {one['wall']:.2f} of "
            f"{actual['wall']:.0f} s wall, {one['disk']:.2f} of {actual['disk'] / 1e6:.1f} MB; load before {load:.1f}"
        )
    return ratios
