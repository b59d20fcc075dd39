"""How does a notebook or a script use diffsweep? `Client().submit(Experiment.from_yaml(path)).results()`.

Without an address a client trains here, in a thread; with one it submits to that Ray cluster. Jobs feel the same.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ServiceError
from service.experiment import Experiment
from service.settings import Settings
from service.settings import load as load_settings

if TYPE_CHECKING:
    import pandas as pd

    from dashboards.verdict.values import Verdicts
    from service.exporting import Winner
    from service.outcome import Outcome
    from service.progress import Event
    from service.submit import Jobs
    from service.tracking.readback import SweepRows
    from trainer.trial import TrialSpec

__all__ = ["Client", "Experiment", "Job"]


class Job(ABC):
    """One experiment at work."""

    def __init__(self, experiment: Experiment, settings: Settings) -> None:
        self.experiment, self._settings = experiment, settings

    @property
    @abstractmethod
    def id(self) -> str:
        """What the job is called where it runs."""

    @abstractmethod
    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. FAILED: at least one trial has no number."""

    @abstractmethod
    def logs(self) -> str:
        """What it has printed."""

    @abstractmethod
    def stop(self) -> None:
        """End it cleanly; submitting the experiment again continues it."""

    def wait(self, timeout: float | None = None, poll_s: float = 0.5) -> str:
        """Wait for the end and return the status; TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.status()) in ("PENDING", "RUNNING"):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.id} is still {status} after {timeout:g} s")
            self._pause(poll_s)
        return status

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def results(self) -> pd.DataFrame:
        """One row per trial, as MLflow knows it: `dashboards.tables.TRIAL_COLUMNS`, then final metrics.

        Works while it runs, too. Raises ServiceError when the tracking store is out of reach.
        """
        from dashboards.tables import trial_table

        table = trial_table(self._tracked().trials)
        order = {cell.name: place for place, cell in enumerate(self.experiment.cells)}
        ranked = table.assign(_place=table["cell"].map(order)).sort_values(["_place", "seed"])
        return ranked.drop(columns="_place").reset_index(drop=True)

    def curves(self) -> pd.DataFrame:
        """One row per metric point, as MLflow knows it: `dashboards.tables.CURVE_COLUMNS`."""
        from dashboards.tables import curve_table

        return curve_table(self._tracked().curves)

    def _tracked(self) -> SweepRows:
        from service.results import tracked

        return tracked(self.experiment, self._settings)

    def verdict(
        self,
        *,
        metric: str | None = None,
        baseline: str | None = None,
        margin: float | None = None,
    ) -> Verdicts:
        """Every cell against the baseline, judged from the trials' directories as they are now.

        `dashboards.verdict.sentences.headline` says it in a sentence. What is given takes the place of
        the experiment's own. Raises IncomparableError, with the reason, where nothing can be judged,
        and ServiceError where the directories are on another machine.
        """
        from service.results import collect, judged

        self._check_at_hand()
        sweep = collect(
            self.experiment, self._settings, metric=metric, baseline=baseline, margin=margin
        )
        verdicts = judged(self.experiment, self._settings, sweep, strict=True).verdicts
        assert verdicts is not None, "a refusal is raised"
        return verdicts

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML report, by default into the experiment's directory, and return its path.

        Raises ServiceError where the trials' directories are on another machine.
        """
        from service.results import collect, judged, write_report

        self._check_at_hand()
        result = judged(self.experiment, self._settings, collect(self.experiment, self._settings))
        out = None if path is None else Path(path)
        return write_report(self.experiment, self._settings, result, out)

    def _check_at_hand(self) -> None:  # noqa: B027
        """Refuse where the trials' directories cannot be read from here; a job on this machine never does."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


class LocalJob(Job):
    """An experiment that runs in a thread of this process."""

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
        self._on_event, self._stop = on_event, threading.Event()
        name = f"diffsweep-{experiment.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        from service.exporting import export_as_asked
        from service.launch import run

        try:
            self.outcome = run(self.experiment, self._settings, self._take, self._stop)
            if (asked := export_as_asked(self.experiment, self._settings)) is not None:
                self.winner, self._lines = asked.winner, [*self._lines, *asked.lines()]
        except BaseException as error:
            self._error = error
            self._lines.append(str(error))

    def _take(self, event: Event) -> None:
        from service.progress import describe

        if line := describe(event, self.experiment.shown_metrics):
            self._lines.append(line)
        if self._on_event is not None:
            self._on_event(event)

    @property
    def id(self) -> str:
        """The experiment's name."""
        return self.experiment.name

    def status(self) -> str:
        """The state of the thread; an environment that refused is raised here as ServiceError."""
        if self._thread.is_alive():
            return "RUNNING"
        if self._error is not None:
            raise self._error
        assert self.outcome is not None
        if self.outcome.interrupted:
            return "STOPPED"
        return "SUCCEEDED" if self.outcome.exit_code == 0 else "FAILED"

    def logs(self) -> str:
        """One line per event so far."""
        return "\n".join(self._lines)

    def stop(self) -> None:
        """End it and wait until its processes are gone."""
        self._stop.set()
        self._thread.join()

    def _pause(self, seconds: float) -> None:
        self._thread.join(seconds)


class ClusterJob(Job):
    """An experiment that runs on a Ray cluster."""

    def __init__(self, experiment: Experiment, settings: Settings, jobs: Jobs, job_id: str) -> None:
        super().__init__(experiment, settings)
        self._jobs, self._id = jobs, job_id

    @property
    def id(self) -> str:
        """The submission id."""
        return self._id

    def status(self) -> str:
        """As Ray tells it."""
        return self._jobs.status(self._id).status

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
        """One row per trial; needs the tracking server that the cluster writes to."""
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

        name, trials = self.experiment.name, tuned(self.experiment, self._settings).trials
        what = f"no trial of {name} is"
        if any(self._settings.trial(trial.key).is_dir() for trial in trials):
            rows = None if self._settings.tracking_uri is None else self._tracked().trials
            missing = without_result(self.experiment, self._settings, self.status(), rows)
            if not missing:
                return
            what = f"the results of {len(missing)} of {len(trials)} trials of {name} are not"
        mend = "set DIFFSWEEP_HOME, here and for the job, to a folder that both can reach, or run"
        raise ServiceError(
            f"{what} below {self._settings.trials}: they are on the cluster's disk",
            f"{mend} `diffsweep compare {name}` and `diffsweep report {name}` where it is",
        )


class Client:
    """The way in. `Client()` trains on this machine, `Client("http://head:8265")` on that cluster."""

    def __init__(self, address: str | None = None, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self.address = address
        self._jobs: Jobs | None = None
        if address is not None:
            from service.address import address_of
            from service.submit import Jobs

            self._jobs = Jobs(address_of(self.settings, address))

    def submit(
        self,
        experiment: Experiment | str | Path,
        env: Mapping[str, str] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Job:
        """Start an experiment, or continue it: trials that are finished are not trained again.

        `env` are environment variables of the job on a cluster; `on_event` sees progress on this machine.
        """
        if not isinstance(experiment, Experiment):
            data, home = self.settings.data, self.settings.home
            experiment = Experiment.from_yaml(experiment, data_root=data, home=home)
        if self._jobs is None:
            return LocalJob(experiment, self.settings, on_event)
        there = self._jobs.submit(experiment, self.settings, env).id
        return ClusterJob(experiment, self.settings, self._jobs, there)

    def launch(
        self, trial: TrialSpec, name: str | None = None, env: Mapping[str, str] | None = None
    ) -> Job:
        """Train a single trial, as an experiment of one cell and one seed."""
        base = trial.model_dump(mode="json", exclude={"seed"})
        name = name or f"trial-{trial.digest()[:8]}"
        whole = {"name": name, "base": base, "seeds": [trial.seed]}
        data, home = self.settings.data, self.settings.home
        return self.submit(Experiment.from_mapping(whole, data_root=data, home=home), env)

    def __repr__(self) -> str:
        return f"Client({self.address or 'this machine'!r})"
