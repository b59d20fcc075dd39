"""How is an experiment run? Tune places the trials, Train trains them, the ledger writes it down.

The trials' directories are the truth. Each run is a fresh Tuner over the trials that have no result
yet, so the same command submits, resumes and extends; Tune's own state is never restored.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError
from service.ledger import Ledger
from service.lock import FileLock, HeldError
from service.outcome import Outcome
from service.settings import Settings
from service.settings import load as load_settings
from service.tracking.outbox import Outbox
from service.tracking.server import check_reachable
from service.tracking.uploader import uploading
from trainer.report import read_result

if TYPE_CHECKING:
    from service.cluster.connect import Cluster, Need
    from service.experiment import Experiment, PlannedTrial
    from service.progress import Event
    from service.worker import Job


def run(
    experiment: Experiment,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run what is left of an experiment and return how it ended; the same call continues it.

    Raises `ServiceError` before any work when the tracking server does not answer, another driver is
    at work on it, or a trial cannot be placed. Ctrl-C, SIGTERM and `stop` end it with `interrupted`.
    """
    settings, stop = settings or load_settings(), stop or threading.Event()
    check_reachable(settings)
    home = settings.experiment(experiment.name)
    with _sole_driver(home, experiment.name):
        from service.experiment.saved import save

        save(experiment, home)
        outbox = Outbox(home / "outbox.db")
        ledger = Ledger(experiment, settings, outbox, on_event)
        with (
            contextlib.closing(outbox),
            uploading(outbox, settings, experiment.name, ledger.note),
            _terminable(),
        ):
            interrupted = False
            try:
                _train(experiment, settings, ledger, stop)
                interrupted = stop.is_set()
            except KeyboardInterrupt:
                interrupted = True
            except BaseException:
                if ledger.is_open:
                    ledger.close(interrupted=True)
                raise
            return ledger.close(interrupted)


def _train(
    experiment: Experiment, settings: Settings, ledger: Ledger, stop: threading.Event
) -> None:
    if all(read_result(settings.trial(trial.key)) is not None for trial in experiment.trials):
        ledger.open()
        return
    from service.cluster.connect import Need, connected

    resources = experiment.spec.resources
    need = Need(resources.workers, resources.cpus, resources.gpus)
    home = settings.experiment(experiment.name)
    with connected(settings, need) as cluster:  # refuses before anything is announced
        jobs = _jobs(ledger.open(), settings, experiment.data_root, need)
        hooks = _hooks(ledger, stop)
        try:
            _tune(experiment.spec.launcher, jobs, need, cluster, settings, home, hooks)
        finally:
            if ledger.outcome.failed and cluster.logs is not None:
                _keep_logs(cluster.logs, home / "ray-logs")


def _jobs(
    waiting: Sequence[PlannedTrial], settings: Settings, data_root: Path, need: Need
) -> dict[str, Job]:
    from service.worker import Job

    attempt = uuid.uuid4().hex
    return {
        trial.key: Job(
            key=trial.key,
            trial=trial.spec.canonical(),
            directory=str(settings.trial(trial.key)),
            cache=str(settings.cache),
            data_root=str(data_root),
            attempt=attempt,
            workers=need.workers,
            cpus=need.cpus,
            gpus=need.gpus,
        )
        for trial in waiting
    }


def _tune(
    launcher: str,
    jobs: dict[str, Job],
    need: Need,
    cluster: Cluster,
    settings: Settings,
    home: Path,
    hooks: dict[str, Any],
) -> None:
    from ray import tune

    from service import worker
    from service.cluster import gang

    shutil.rmtree(home / "tune", ignore_errors=True)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    stock = launcher == "train" and not gang.supported()
    if stock:
        trainable, bundles = worker.trial_in_stock, [{"CPU": 0.01}]
    elif launcher == "inproc":
        trainable, bundles = worker.trial_in_place, [need.per_worker]
    else:
        trainable, bundles = worker.trial_in_gang, gang.bundles(need.workers, need.per_worker)
    limits = [
        settings.concurrency,
        need.at_once(cluster.cpus - 0.1, cluster.gpus) if stock else None,
    ]
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(bundles, strategy="PACK")),
        param_space={"job": tune.grid_search([job.text() for job in jobs.values()])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=min((limit for limit in limits if limit), default=None),
            reuse_actors=not stock and not (launcher == "inproc" and need.gpus > 0),
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(home),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=worker.RETRIES),
            **hooks,
        ),
    )
    with gang.reaping() if stock else contextlib.nullcontext():
        tuner.fit()


def _name(trial: Any) -> str:
    from service.worker import Job

    return Job.of(trial.config).key


def _hooks(ledger: Ledger, stop: threading.Event) -> dict[str, Any]:
    """A Tune callback that hands everything to the ledger, and a stopper that obeys `stop`.

    Tune pickles both for a restore that we never do, hence `__reduce__`: they hold locks and files.
    """
    from ray import tune
    from ray.tune.stopper import NoopStopper

    from service.worker import MESSAGE, last_line, parse

    class Relay(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            return (tune.Callback, ())

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            ledger.started(_name(trial))

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if MESSAGE in result:
                ledger.told(_name(trial), parse(result[MESSAGE]))

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._released(trial, "it ended without a result")

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._released(trial, last_line(str(trial.get_error() or "its process was lost")))

        def _released(self, trial: Any, reason: str) -> None:
            key = _name(trial)
            if not stop.is_set() and not ledger.is_settled(key):
                ledger.failed(key, reason, trial.error_file)
            ledger.released(key)

    class Stop(tune.Stopper):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            return (NoopStopper, ())

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return stop.is_set()

    return {"callbacks": [Relay()], "stop": Stop()}


def _keep_logs(logs: Path, kept: Path) -> None:
    """Ray's logs of a run with failures outlive its private directory."""
    shutil.rmtree(kept, ignore_errors=True)
    with contextlib.suppress(OSError, shutil.Error):
        shutil.copytree(logs, kept, symlinks=True)


@contextlib.contextmanager
def _sole_driver(home: Path, name: str) -> Iterator[None]:
    """A driver that was just killed frees the lock at once; a living one keeps it."""
    try:
        with FileLock(home / "driver.lock"):
            yield
    except HeldError as held:
        raise ServiceError(
            f"{name} is being run by {held.holder}",
            "wait until it ends, or stop it with Ctrl-C; then the same command continues",
        ) from None


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, as `ray job stop` sends it, ends a run like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
