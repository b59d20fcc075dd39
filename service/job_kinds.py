"""Where does a job run? In a thread of this process, in another one on this machine, or on a Ray cluster."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

from service.errors import ServiceError
from service.experiment import Experiment
from service.job import Job, JobHere
from service.settings import load

if TYPE_CHECKING:
    import pandas as pd

    from service.board import Board
    from service.exporting import Winner
    from service.job_progress import JobProgress
    from service.outcome import Outcome
    from service.progress import Event
    from service.settings import Settings
    from service.submit import Jobs, Submission


class LocalJob(JobHere):
    """An experiment that runs in a thread of this process."""

    _asked_every_s = 0.0
    _at_work: ClassVar[MutableMapping[tuple[Path, str], LocalJob]] = WeakValueDictionary()

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        super().__init__(experiment, settings)
        self.outcome: Outcome | None = None
        self.winner: Winner | None = None  # of `export: winner`; `logs()` says why there is none
        self._error: BaseException | None = None
        self._lines: list[str] = []
        self._board: Board | None = None
        self._on_event, self._stop, self._over = on_event, threading.Event(), threading.Event()
        name = f"diffsweep-{experiment.name}"
        self._at_work[settings.home, experiment.name] = self
        threading.Thread(target=self._work, name=name, daemon=True).start()

    @classmethod
    def at_work(cls, settings: Settings, name: str) -> LocalJob | None:
        """The job of this process that runs an experiment of that name in this home."""
        job = cls._at_work.get((settings.home, name))
        return job if job is not None and not job._over.is_set() else None

    def _work(self) -> None:
        from service.board import Board
        from service.exporting import export_as_asked
        from service.launch import run

        try:
            self._board = Board.of(self.experiment, self._settings)
            self.outcome = run(self.experiment, self._settings, self._take, self._stop)
            if (asked := export_as_asked(self.experiment, self._settings)) is not None:
                self.winner, self._lines = asked.winner, [*self._lines, *asked.lines()]
        except BaseException as error:
            self._error = error
            self._lines.append(str(error))
        finally:
            self._over.set()

    def _take(self, event: Event) -> None:
        from service.progress import describe

        if self._board is not None:
            self._board.take(event)
        if line := describe(event, self.experiment.shown_metrics):
            self._lines.append(line)
        if self._on_event is not None:
            self._on_event(event)

    @property
    def id(self) -> str:
        """The experiment's name."""
        return self.experiment.name

    def status(self) -> str:
        """The state of the thread; an environment that refused is raised here as ServiceError.

        Asked of an event: a thread whose `join` was interrupted says that it is not alive any more.
        """
        if not self._over.is_set():
            return "RUNNING"
        if self._error is not None:
            raise self._error
        assert self.outcome is not None
        if self.outcome.interrupted:
            return "STOPPED"
        return "SUCCEEDED" if self.outcome.exit_code == 0 else "FAILED"

    def progress(self) -> JobProgress | None:
        """Counted from what its trials said."""
        from service.job_progress import JobProgress

        board = self._board
        if board is None:
            return None
        return JobProgress.of(self.id, board.standing(board.look()))

    def logs(self) -> str:
        """One line per event so far."""
        return "\n".join(self._lines)

    def stop(self) -> None:
        """End it and wait until its processes are gone."""
        self._stop.set()
        self._over.wait()

    def _pause(self, seconds: float) -> None:
        self._over.wait(seconds)


class RecordedJob(JobHere):
    """An experiment of this home that no thread of this process runs: another process does, or it has ended."""

    @property
    def id(self) -> str:
        """The experiment's name."""
        return self.experiment.name

    def status(self) -> str:
        """RUNNING while a driver is at work on it, otherwise as its records say that it ended."""
        from service.sole_driver import driver

        if driver(self._settings, self.id) is not None:
            return "RUNNING"
        known = self.progress()
        if known.done + known.failed < known.total:
            return "STOPPED"
        return "FAILED" if known.failed else "SUCCEEDED"

    def progress(self) -> JobProgress:
        """Counted from the records."""
        from service.job_progress import JobProgress
        from service.recorded import recorded

        return JobProgress.of(self.id, recorded(self.experiment, self._settings))

    def logs(self) -> str:
        """What its records say: nobody keeps what a driver on this machine has printed."""
        return self.progress().line()

    def stop(self) -> None:
        """Tell the driver to end, which a process on this machine does after its bookkeeping."""
        from service.sole_driver import driver

        who = driver(self._settings, self.id) or ""
        here = re.match(rf"process (\d+) on {re.escape(socket.gethostname())}(,|$)", who)
        if here:
            os.kill(int(here[1]), signal.SIGTERM)
        elif who:
            raise ServiceError(f"{self.id} is run by {who}", "end it there")


class ClusterJob(Job):
    """An experiment that runs on a Ray cluster."""

    def __init__(
        self,
        experiment: Experiment | None,
        settings: Settings,
        jobs: Jobs,
        job_id: str,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`variables` are those that the job was given."""
        self._jobs, self._id, self._known = jobs, job_id, experiment
        self._variables = dict(variables or {})
        self._own_settings = settings

    @classmethod
    def of(cls, there: Submission, settings: Settings, jobs: Jobs) -> ClusterJob:
        """One that was submitted before, from here or elsewhere."""
        job = cls(None, settings, jobs, there.id, there.variables)
        job._known = _experiment_of(there, job._settings)
        return job

    @property
    def experiment(self) -> Experiment:
        """What it trains. ServiceError where neither the job nor a folder that can be read from here says it."""
        if self._known is None:
            raise ServiceError(
                f"{self.id} does not say what it trains, and {self._settings.place} has no records of it",
                "set DIFFSWEEP_HOME to a folder that both can reach, or submit with diffsweep",
            )
        return self._known

    @property
    def _settings(self) -> Settings:
        """Those of here, but the job's own home if that can be reached, and its tracking server."""
        settings = self._own_settings
        there = load(home=self._variables.get("DIFFSWEEP_HOME") or settings.place)
        home = there.home
        if home != settings.home and (home.is_dir() or there.remote is not None):
            settings = settings.model_copy(update={"home": home})
        uri = self._variables.get("MLFLOW_TRACKING_URI")
        if uri and settings.tracking_uri is None:
            settings = settings.model_copy(update={"tracking_uri": uri})
        return settings

    @property
    def id(self) -> str:
        """The submission id."""
        return self._id

    def status(self) -> str:
        """As Ray tells it."""
        return self._jobs.status(self._id).status

    def progress(self) -> JobProgress | None:
        """As the driver says it in the job's log."""
        return self._jobs.progress(self._id)

    def logs(self) -> str:
        """What the driver has printed on the cluster."""
        return self._jobs.logs(self._id)

    def follow(self) -> Iterator[str]:
        """What it prints, as it prints it, until it ends."""
        return self._jobs.follow(self._id)

    def stop(self) -> None:
        """Ask the driver to end; it stops its trials and delivers what they reported."""
        self._jobs.stop(self._id)

    def results(self) -> pd.DataFrame:
        """One row per trial, see `Job.results`; needs the tracking server that the cluster writes to."""
        if self._settings.tracking_uri is None:
            raise ServiceError(
                "without a tracking server the results stay on the cluster",
                "set MLFLOW_TRACKING_URI to a server that both can reach, before submitting",
            )
        return super().results()

    def _check_at_hand(self) -> None:
        """Directories of an earlier run on this machine may lie here: they must hold what the job did."""
        from service.results import without_result
        from service.search.study import tuned

        settings = self._settings
        name, trials = self.experiment.name, tuned(self.experiment, settings).trials
        what = f"no trial of {name} is"
        if any(settings.trial(trial.key).is_dir() for trial in trials):
            here = settings.tracking_uri is None
            rows = None if here else self._tracked(curves=False).trials
            missing = without_result(self.experiment, settings, self.status(), rows)
            if not missing:
                return
            what = f"the results of {len(missing)} of {len(trials)} trials of {name} are not"
        mend = "set DIFFSWEEP_HOME, here and for the job, to a folder that both can reach, or run"
        raise ServiceError(
            f"{what} below {settings.trials}: they are on the cluster's disk",
            f"{mend} `diffsweep compare {name}` and `diffsweep report {name}` where it is",
        )


def _experiment_of(there: Submission, settings: Settings) -> Experiment | None:
    """From what Ray keeps with the job, or from the records in its home."""
    from service.experiment.saved import read_saved
    from trainer.errors import InputError
    from trainer.yaml.source import parse

    try:
        if text := there.metadata.get("yaml"):
            options = json.loads(there.metadata.get("options", "[]"))
            data, home = parse(text, there.id).data, settings.home
            return Experiment.from_mapping(data, ".", options, settings.data, home)
        return read_saved(settings.experiment(there.experiment))
    except (OSError, InputError, ValueError):
        return None
