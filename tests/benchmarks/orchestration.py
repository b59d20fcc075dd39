"""What does orchestration add? From the command to the first step, per trial, and from the last result to the end.

The same trials of the digits by `diffsweep run` and by stock Ray Tune: with a TorchTrainer for each trial, and as a
plain function. Every case is a command of its own in a fresh home, with the feature extractor made before, as it is
in every run but the first; and in turn. Tune keeps no record, tells no MLflow, judges nothing and writes no report.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.side_by_side import Report, gate
from trainer.trial import TrialSpec

ROW = 8
ROOT = Path(__file__).parents[2]
PRESET = ROOT / "experiments" / "presets" / "digits.yaml"
CHANGES = {"train.kimg": 2.56, "evaluation.evaluations": 2, "evaluation.full.images": 260}
SEEDS, ROUNDS, EVERY_S = 4, 3, 0.1
FIRST_STEP_S, SHARE, END_S = 8.0, 1 / 3, 2.0
"""Wanted: of the command, of what stock Ray holds a slot beyond a trial's own work, of the report."""
STOCK = "Ray Tune + TorchTrainer"
CASES = {"diffsweep": "train", "diffsweep in process": "inproc", STOCK: "", "plain Ray Tune": ""}
"""Name to the launcher of ours."""


@dataclass(frozen=True)
class Measured:
    """One command."""

    first_step_s: float
    """Seconds from the command to the first training step of any trial."""
    first_step_cpu_s: float
    """CPU seconds of all its processes until then."""
    beyond_s: float
    """Slot-seconds per trial beyond its own training and evaluation, between first step and last result."""
    end_s: float
    """Seconds from the last result to the report; of a peer, which writes none, to its end."""
    metrics: dict[int, float]
    """By seed, the number that is reported."""


@dataclass
class Family:
    """CPU seconds of a process and all that it starts, as time goes on."""

    began: float
    seen: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """By process: when, and how much by then."""

    def look(self, head: psutil.Process) -> None:
        """Now."""
        try:
            members = [head, *head.children(recursive=True)]
        except psutil.Error:
            return
        for member in members:
            try:
                used, now = member.cpu_times(), time.time()
            except psutil.Error:
                continue
            self.seen.setdefault(member.pid, []).append((now, used.user + used.system))

    def until(self, moment: float) -> float:
        """CPU seconds of all by this time."""
        return sum(
            max((cpu for when, cpu in looks if when <= moment), default=0.0)
            for looks in self.seen.values()
        )


def spec(seed: int) -> TrialSpec:
    """A trial of a second or two."""
    return TrialSpec.from_yaml(PRESET, [*(f"{k}={v}" for k, v in CHANGES.items()), f"seed={seed}"])


def measured(began: float, ended: float, family: Family, trials: Path, slots: int) -> Measured:
    """From the trials' own records and clocks."""
    results = {path: json.loads(path.read_text()) for path in trials.glob("*/result.json")}
    first = min(result["started_s"] for result in results.values())
    last = max(path.stat().st_mtime for path in results)
    own = sum(result["seconds"] + result["eval_seconds"] for result in results.values())
    seeds = {path: json.loads((path.parent / "trial.json").read_text())["seed"] for path in results}
    return Measured(
        first - began,
        family.until(first),
        ((last - first) * min(slots, len(results)) - own) / len(results),
        ended - last,
        {seeds[path]: result["metrics"]["eval/fid"] for path, result in results.items()},
    )


def once(case: str, cache: Path) -> Measured:
    """One command from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="ds-bench-", dir="/tmp") as name:
        home = Path(name)
        shutil.copytree(cache, home / "cache")
        command = [sys.executable, "-m", "tests.benchmarks.orchestration", case, str(home)]
        if CASES[case]:
            file = home / "x.yaml"
            file.write_text(json.dumps(experiment(CASES[case])))
            command = [sys.executable, "-m", "service", "run", str(file), "--home", str(home)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        family = Family(began := time.time())
        run = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        head = psutil.Process(run.pid)
        while run.poll() is None:
            family.look(head)
            try:
                run.wait(EVERY_S)
            except subprocess.TimeoutExpired:
                continue
        assert run.stdout is not None
        assert run.returncode == 0, run.stdout.read().decode()
        report = home / "experiments" / "orchestration" / "report.html"
        ended = report.stat().st_mtime if CASES[case] else time.time()
        return measured(began, ended, family, home / "trials", psutil.cpu_count() or 1)


def experiment(launcher: str) -> dict[str, Any]:
    """One cell, so that nothing but `SEEDS` trials is there."""
    return {
        "name": "orchestration",
        "base": str(PRESET),
        "set": CHANGES,
        "arms": {"a": {}},
        "seeds": SEEDS,
        "launcher": launcher,
    }


def stock(case: str, home: Path) -> None:
    """The same trials by Ray Tune as its pages show it."""
    import ray
    from ray import tune

    specs = [spec(seed).model_dump_json() for seed in range(SEEDS)]

    def loop(config: dict[str, Any], tell: Any) -> None:
        from trainer.loop import train

        trial = TrialSpec.model_validate_json(specs[config["number"]])
        where = home / "trials" / str(config["number"])
        for report in train(trial, where, cache=home / "cache", device="cpu"):
            tell({"images": report.images, **report.metrics})

    def plain(config: dict[str, Any]) -> None:
        loop(config, tune.report)

    def in_worker(config: dict[str, Any]) -> None:
        from ray import train

        loop(config, train.report)

    def nested(config: dict[str, Any]) -> None:
        from ray import train
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        TorchTrainer(
            in_worker,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=1),
            run_config=train.RunConfig(
                name=f"number-{config['number']}",
                storage_path=str(home / "train"),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    slots = psutil.cpu_count() or 1
    ray.init(num_cpus=slots, log_to_driver=False, logging_level="ERROR", _temp_dir=str(home / "r"))
    is_nested = case == STOCK
    found = tune.Tuner(
        tune.with_resources(nested if is_nested else plain, {"CPU": 0.01 if is_nested else 1}),
        param_space={"number": tune.grid_search(list(range(SEEDS)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=slots),
        run_config=tune.RunConfig(storage_path=str(home / "tune"), verbose=0),
    ).fit()
    assert not found.errors, found.errors


def same_numbers(report: Report, found: Mapping[str, Measured]) -> None:
    """However a trial was started, it is the same trial, to the last bit."""
    numbers = {
        case: [one.metrics[seed] for seed in sorted(one.metrics)] for case, one in found.items()
    }
    known = next(iter(numbers.values()))
    for case, values in numbers.items():
        assert len(values) == SEEDS, f"{case}: {len(values)} trials of {SEEDS} ended"
        error = max(abs(a - b) for a, b in zip(values, known, strict=True))
        gate(report, f"{case}, its numbers beside those of the others", error, 0.0)


def lines(found: Mapping[str, Sequence[Measured]]) -> list[str]:
    """What each case took, and ours beside the stock one."""
    said = []
    for case, runs in found.items():
        first, cpu, beyond, end = (
            statistics.median(getattr(run, name) for run in runs)
            for name in ("first_step_s", "first_step_cpu_s", "beyond_s", "end_s")
        )
        what = "report" if CASES[case] else "end"
        said.append(
            f"row {ROW}, {case}: {first:.1f} s and {cpu:.1f} CPU-s from the command to the first step; {beyond:.2f} "
            f"slot-seconds per trial beyond its own; {end:.1f} s from the last result to the {what}"
        )
    ours, theirs = found["diffsweep"], found[STOCK]
    shares = [mine.beyond_s / other.beyond_s for mine, other in zip(ours, theirs, strict=True)]
    cpu_s = [o.first_step_cpu_s / m.first_step_cpu_s for m, o in zip(ours, theirs, strict=True)]
    goals = {
        f"first step within {FIRST_STEP_S:g} s": statistics.median(m.first_step_s for m in ours) <= FIRST_STEP_S,
        f"slot-seconds at most {SHARE:.2f} of {STOCK}": statistics.median(shares) <= SHARE,
        f"report within {END_S:g} s": statistics.median(m.end_s for m in ours) <= END_S,
    }  # fmt: skip
    said.append(
        f"row {ROW}, slot-seconds per trial beyond its own, of those of {STOCK}: {_spread(shares)}; "
        f"CPU-seconds to the first step: {STOCK} takes {_spread(cpu_s)} times ours"
    )
    said += [f"  {goal}{'' if is_met else ' (not reached)'}" for goal, is_met in goals.items()]
    return said


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f} .. {max(values):.2f}]"


def main(report: Report = print, rounds: int = ROUNDS) -> None:
    """All cases in turn."""
    found: dict[str, list[Measured]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as name:
        made, cache = spec(0), Path(name) / "cache"
        made.evaluation.features.build(made.data.load(Path(name), cache), cache)
        for number in range(rounds):
            load = os.getloadavg()[0]
            for case in CASES:
                found[case].append(once(case, cache))
            same_numbers(report, {case: runs[-1] for case, runs in found.items()})
            firsts = ", ".join(f"{runs[-1].first_step_s:.1f}" for runs in found.values())
            report(f"  round {number + 1}, load {load:.1f}: first steps after {firsts} s")
    for line in lines(found):
        report(line)


if __name__ == "__main__":
    stock(sys.argv[1], Path(sys.argv[2]))
