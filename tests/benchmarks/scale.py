"""300 tiny trials on a cluster of four nodes: seconds per trial next to plain Ray Tune, and what is left behind.

The nodes are processes of this machine. Plain Tune runs the same training of the same trials on the same cluster.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from service import launch, progress
from service.experiment import Experiment
from service.settings import Settings
from tests.benchmarks.tiny import TINY

TRIALS, NODES, PLAIN = 300, 4, 30
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Measured:
    """One sweep on a cluster."""

    trials: int
    launcher: str
    per_trial_s: float
    """From end to end of trials, once all processes have imported what they need."""
    plain_s: float
    """The same of plain Tune with `reuse_actors`, which is not its default."""
    fresh_s: float
    """The same of plain Tune as it is: a new process for each trial."""
    mb: float
    """Of the driver at the end."""
    mb_per_100: float
    """By which it grew over the second half.

    What is left is Tune's: an object of each trial that it was handed, about 3 MB per 100 of them. It is handed 200
    ahead, so that the second half of 300 has a third of it. Ours are a trial's result and last report, some kilobytes.
    """
    left: dict[str, int]
    """What was there after the run and not before."""


def experiment(trials: int, launcher: str, name: str = "scale") -> Experiment:
    """Cells that differ in their learning rate, ten seeds each; under another name other trials."""
    cells = max(2, trials // 10)
    arms = {f"lr{k}": {"optimizer.lr": 1e-3 * (1 + k + len(name) / 100)} for k in range(cells)}
    given = {"name": name, "base": TINY, "arms": arms, "seeds": trials // cells}
    return Experiment.from_mapping({**given, "launcher": launcher})


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[None]:
    """A Ray of several nodes with a CPU each, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    own = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    head = {**own, "include_dashboard": False}
    running = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            running.add_node(**own)
        ray.init(address=running.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        running.shutdown()


def pace(ends: list[float]) -> float:
    """Seconds per trial, once each node has had two and its process has imported what it needs."""
    return (ends[-1] - ends[2 * NODES]) / (len(ends) - 1 - 2 * NODES)


def growth(sizes: list[float]) -> float:
    """MB per 100 trials over the second half, of the driver's sizes at the trials' ends."""
    half = sizes[len(sizes) // 2 :]
    return float(np.polyfit(np.arange(len(half)), half, 1)[0]) * 100


def plain_tune(experiment: Experiment, trials: int, home: Path, reuse: bool) -> list[float]:
    """When the trials of Tune alone ended, over the same function: train, and report what is reported."""
    from ray import tune

    specs, ends = [trial.spec.model_dump_json() for trial in experiment.trials], list[float]()

    def train_one(config: dict[str, Any]) -> None:
        from trainer.loop import train
        from trainer.trial import TrialSpec

        number = config["number"]
        spec = TrialSpec.model_validate_json(specs[number])
        for report in train(spec, home / "plain" / str(number), cache=home / "cache"):
            tune.report({"images": report.images, **report.metrics})

    class Ends(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            return (tune.Callback, ())

        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            ends.append(time.monotonic())

    results = tune.Tuner(
        tune.with_resources(train_one, {"CPU": 1}),
        param_space={"number": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=str(home / "tune"), verbose=0, callbacks=[Ends()]),
    ).fit()
    assert results.num_errors == 0
    return ends


def there() -> dict[str, int]:
    """What a run may leave behind, counted now."""
    import ray
    from ray._private.state import state

    me = psutil.Process()
    groups = ray.util.placement_group_table().values()
    actors = state.actor_table(None).values()
    return {
        "actors": sum(actor["State"] != "DEAD" for actor in actors),
        "placement groups": sum(group["state"] != "REMOVED" for group in groups),
        "open files": len(me.open_files()),
        "sockets and files": me.num_fds(),
        "threads": threading.active_count(),
        "processes of the driver": len(me.children()),
        "temporary folders": len(list(Path(tempfile.gettempdir()).iterdir())),
    }


def left(before: dict[str, int], patience_s: float = 20.0) -> dict[str, int]:
    """What is there more than before; Ray takes a moment to bury its dead."""
    deadline = time.monotonic() + patience_s
    while True:
        now = there()
        more = {name: now[name] - before[name] for name in now}
        if max(more.values()) <= 0 or time.monotonic() > deadline:
            return more
        time.sleep(0.5)


def running_runs(settings: Settings) -> int:
    """MLflow runs that are told to be at work."""
    import mlflow

    client = mlflow.MlflowClient(settings.store_uri)
    known = client.get_experiment_by_name("scale")
    found = client.search_runs([known.experiment_id], "status = 'RUNNING'", max_results=1000)
    return len(found)


def measure(trials: int, nodes: int, launcher: str, plain: int) -> Measured:
    """Run it in this process, which should be a new one."""
    with tempfile.TemporaryDirectory(prefix="diffsweep-bench-") as folder, cluster(nodes):
        home, me = Path(folder), psutil.Process()
        settings, sweep = (
            Settings(home=home / "home", tracking_uri=None),
            experiment(trials, launcher),
        )
        launch.run(
            experiment(4, launcher, "before"), settings
        )  # all is imported, MLflow has its tables
        before, sizes, times = there(), list[float](), list[float]()

        def see(event: progress.Event) -> None:
            if isinstance(event, progress.TrialFinished):
                times.append(time.monotonic())
                sizes.append(me.memory_info().rss / 1e6)

        outcome = launch.run(sweep, settings, see)
        assert outcome.finished == len(sweep.trials), outcome
        over = left(before)
        over["MLflow runs"] = running_runs(settings)
        scratch = [p for p in settings.home.rglob("*") if "scratch" in p.name or p.suffix == ".tmp"]
        over["files of the home"] = len(scratch)
        again = fresh = float("nan")
        if plain:
            again = pace(plain_tune(sweep, plain, home / "a", reuse=True))
            fresh = pace(plain_tune(sweep, plain // 3, home / "b", reuse=False))
        each = pace(times)
        return Measured(trials, launcher, each, again, fresh, sizes[-1], growth(sizes), over)


def in_a_process(trials: int, nodes: int, launcher: str, plain: int, timeout_s: float) -> Measured:
    """The same in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token"}
    environment |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "DIFFSWEEP_HOME"):
        environment.pop(name, None)
    words = [str(trials), str(nodes), launcher, str(plain)]
    with tempfile.TemporaryDirectory(prefix="ds-", dir="/tmp") as own:  # sockets need a short path
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.scale", *words], cwd=ROOT,
            env={**environment, "TMPDIR": own}, capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def main(report: Callable[[str], None] = print) -> list[Measured]:
    """Print both launchers."""
    measured = []
    for launcher, trials in (("inproc", TRIALS), ("train", TRIALS // 3)):
        one = in_a_process(trials, NODES, launcher, PLAIN, 3600)
        measured.append(one)
        over = [f"{count} {name}" for name, count in one.left.items() if count > 0]
        report(
            f"scale, launcher: {launcher}: {trials} trials on {NODES} nodes,"
            f" {one.per_trial_s:.2f} s a trial; plain Tune {one.plain_s:.2f} with reuse_actors"
            f" ({one.per_trial_s / one.plain_s:.2f}x), {one.fresh_s:.2f} without"
            f" ({one.per_trial_s / one.fresh_s:.2f}x); the driver had {one.mb:.0f} MB,"
            f" {one.mb_per_100:+.1f} MB per 100 trials; left behind: {', '.join(over) or 'nothing'}"
        )
    return measured


if __name__ == "__main__":
    asked = measure(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    print(json.dumps(asdict(asked)))
