"""How does Ray Tune run what is asked for? A searcher that asks, a callback that tells, a stopper that obeys.

Tune places trials, starts their actors and replaces lost ones. Each of its trials is one job: a trial of
ours until it pauses, stops or ends; a trial that goes on later is another one to Tune.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.air._internal import usage
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper

from service import signals
from service.causes import NO_MEMORY, lost
from service.cluster import gang, trainables
from service.cluster.connect import Cluster
from service.cluster.joining import environment
from service.cluster.losses import losses_are_survived
from service.cluster.ray_log import last_failure, ray_log
from service.cluster.seats import Seats
from service.cluster.waiting import Waiting
from service.errors import ServiceError
from service.worker import MESSAGE, Job, parse
from trainer.machine import oom_kills

if TYPE_CHECKING:
    from service.dispatch import Dispatch
    from service.experiment import Experiment
    from service.settings import Settings

_CHECK_S = 5.0
"""How often it is asked whether this run's own Ray lives."""
_TUNE = {
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
}
"""By default one job would start after the other; how many may wait is decided by `Seats`. And Tune would write all
that it knows of all trials again and again, for a restore that we never do, and keep what it wrote."""


def run(
    dispatch: Dispatch,
    experiment: Experiment,
    settings: Settings,
    cluster: Cluster,
    stop: threading.Event,
) -> None:
    """Run jobs until the dispatch is over or `stop` is set."""
    launcher, shapes, most = experiment.spec.launcher, experiment.shapes, settings.concurrency
    home = settings.experiment(experiment.name)
    shutil.rmtree(home / "tune", ignore_errors=True)
    trainable: Callable[[dict[str, Any]], None]
    is_stock = launcher == "train" and not gang.supported()
    if is_stock:
        trainable, how = trainables.trial_in_stock, "stock"
    elif launcher == "inproc":
        trainable, how = trainables.trial_in_place, "in place"
    elif launcher == "ensemble":
        trainable, how = trainables.trial_in_ensemble, "in place"
    else:
        trainable, how = trainables.trial_in_gang, "gang"
    if is_stock:  # its workers are in no group of Tune's: too many trials would wait for each other
        cpus, gpus = cluster.size()
        fitting = max(1, min(one.at_once(cpus - 0.1, gpus) for one in shapes))
        most = min(most or fitting, fitting)
    seats = Seats(dispatch, experiment, cluster, most)
    has_gpus = any(one.gpus for one in shapes)
    reaping = gang.reaping() if is_stock else contextlib.nullcontext()
    with environment(_TUNE), ray_log(home), losses_are_survived(), _uncounted(), reaping:
        tuner = tune.Tuner(
            tune.with_resources(trainable, partial(trainables.placed, how)),
            tune_config=tune.TuneConfig(
                num_samples=-1,
                search_alg=Asking(seats),
                scheduler=Yielding(seats),
                reuse_actors=not is_stock
                and not (launcher != "train" and has_gpus)
                and not seats.is_elastic,  # a job that is taken back would leave a place for its actor
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(home),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=trainables.RETRIES),
                callbacks=[Telling(seats)],
                progress_reporter=Silent(),
                stop=Stopping(seats, stop),
            ),
        )
        try:
            tuner.fit()
        except Exception as error:  # Tune wraps what is raised while it handles a report
            if isinstance(error.__context__, ServiceError):
                raise error.__context__ from None
            raise


_counting = getattr(usage, "tag_callbacks", None)


@contextlib.contextmanager
def _uncounted() -> Iterator[None]:
    """Tune counts for Ray's statistics, which are off, whose callbacks it got, and imports mlflow to know its own."""
    if _counting is not None:
        usage.tag_callbacks = lambda _: False
    try:
        yield
    finally:
        if _counting is not None:
            usage.tag_callbacks = _counting


def _name(trial: Any) -> str:
    return f"{Job.of(trial.config).key}-{trial.trial_id}"


# Tune pickles the four below for a restore that we never do, hence `__reduce__`: they hold locks and files.


class Asking(Searcher):  # type: ignore[misc]
    """Asks for the next job whenever Tune could place one."""

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self._seats = seats

    def __reduce__(self) -> tuple[Any, ...]:
        return (Searcher, ())

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """A job; None for nothing yet (Tune asks again in a moment); FINISHED for nothing ever again."""
        jobs = self._seats.next(trial_id)
        if jobs is None:
            over: str = Searcher.FINISHED
            return over if self._seats.dispatch.is_over else None
        return {
            "job": jobs[0].text(),
            **self._seats.left(trial_id),
            "resources": self._seats.dispatch.occupied(jobs[0].key).model_dump_json(),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Told to `Telling` too, which knows why."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the records are the state."""


class Yielding(FIFOScheduler):  # type: ignore[misc]
    """Takes back a job that waits for another number of workers than has room: it is asked for again, with that."""

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self._seats = seats
        self._since: dict[str, float] = {}
        """When a job was first seen to wait."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (FIFOScheduler, ())

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first that waits, as always; is asked in every step."""
        if self._seats.is_elastic:
            live, now = list(tune_controller.get_live_trials()), time.monotonic()
            waiting = {trial.trial_id: trial for trial in live if trial.status == "PENDING"}
            self._since = {tune_id: self._since.get(tune_id, now) for tune_id in waiting}
            for tune_id, trial in waiting.items():
                if self._seats.take_back(tune_id, now - self._since[tune_id]):
                    tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


class Telling(tune.Callback):  # type: ignore[misc]
    """Tells the dispatch what becomes of the jobs."""

    def __init__(self, seats: Seats) -> None:
        self._seats = seats
        self._waiting = Waiting(seats.dispatch.note, is_private=seats.cluster.is_private)
        self._kills, self._killed = oom_kills(), dict[str, int]()
        self._seen, self._open, self._next_check = 0, dict[str, Any](), 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return (tune.Callback, ())

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """It got an actor."""
        self._killed[trial.trial_id] = oom_kills()
        for key in self._seats.started(trial.trial_id):
            self._seats.dispatch.started(key, trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """What `Stopping` took; of several in one process, some may end by it."""
        if (actor := trial.temporary_state.ray_actor) is not None:
            for key in self._seats.unwanted(trial.trial_id):
                actor.unwant.remote(key)
        trial.config.update(self._seats.left(trial.trial_id))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """It returned, or was stopped."""
        self._release(trial, "it ended without a result")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """It was lost more often than it is replaced."""
        self._release(trial, self._lost(trial))

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """It was lost, and gets another actor; why is worth a line where it may come again."""
        keys = self._seats.keys(trial.trial_id)
        if keys and (why := self._lost(trial)).startswith(NO_MEMORY):
            self._seats.dispatch.lost(keys, why)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Say why nothing runs; kill what hangs. Tune drops trials without a word when an actor cannot take them."""
        if (now := time.monotonic()) > self._next_check:
            self._next_check = now + _CHECK_S
            signals.listen_again()  # Tune ends without a word at SIGUSR1
            self._seats.cluster.check()
        if len(trials) != self._seen:  # Tune keeps all that ever were, and asks after every event
            self._open = {t.trial_id: t for t in trials if t.trial_id in self._seats.taken}
            self._seen = len(trials)
        known = [trial.status for trial in self._open.values()]
        at_work = known.count("RUNNING")
        waiting = [] if at_work else [t for t in self._open.values() if t.status == "PENDING"]
        self._waiting.look([trainables.resources(one.config) for one in waiting], at_work)
        hopeless = set(self._seats.dispatch.hopeless())
        for trial in list(self._open.values()) if hopeless or "ERROR" in known else ():
            if trial.trial_id in self._seats.taken and not hopeless.isdisjoint(
                self._seats.keys(trial.trial_id)
            ):
                actor = trial.temporary_state.ray_actor
                if actor is not None:
                    ray.kill(actor)  # Tune starts it anew, as after any other loss
            if trial.status == "ERROR" and trial.trial_id in self._seats.taken:
                self._release(trial, self._lost(trial))

    def _lost(self, trial: Any) -> str:
        """Why; the kernel's own kills are known of this machine alone, and count since the trial got its actor."""
        killed = oom_kills() - self._killed.get(trial.trial_id, self._kills)
        text = last_failure(trial.error_file) or "its process was lost"
        return lost(text, killed if self._seats.cluster.is_private else 0)

    def _release(self, trial: Any, problem: str) -> None:
        keys = self._seats.release(trial.trial_id)
        self._open.pop(trial.trial_id, None)
        self._killed.pop(trial.trial_id, None)
        for key in keys:
            self._seats.dispatch.released(key, problem, trial.error_file)
        for kept in (trial.metric_analysis, trial.metric_n_steps):
            kept.clear()  # means of Tune's own numbers over its last reports: nobody asks for them


class Silent(tune.ProgressReporter):  # type: ignore[misc]
    """Shows nothing: Tune's own one for notebooks clears what the notebook shows, however quiet it is told to be."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        """Never."""
        return False

    def report(self, trials: Any, done: bool, *sys_info: str) -> None:
        """Nothing."""


class Stopping(tune.Stopper):  # type: ignore[misc]
    """Takes every report, and stops the trial there if nobody wants it any more.

    A callback hears of a report only after Tune has decided to go on; the stopper is asked first.
    """

    def __init__(self, seats: Seats, stop: threading.Event) -> None:
        self._seats, self._stop = seats, stop

    def __reduce__(self) -> tuple[Any, ...]:
        return (NoopStopper, ())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial stops; its last result comes twice, the second time as `done`."""
        if result.get("done") or MESSAGE not in result:
            return False
        return self._seats.take(trial_id, parse(result[MESSAGE]))

    def stop_all(self) -> bool:
        """Whether the person stopped the run."""
        return self._stop.is_set()
