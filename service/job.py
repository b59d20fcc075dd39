"""What can be asked of an experiment at work, or of one that has ended, wherever it runs?"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

    from service.job_progress import JobProgress
    from service.notebook import Verdict
    from service.results import Judged
    from service.settings import Settings
    from service.tracking.readback import SweepRows

_OFTEN_S = 5.0
"""Seconds between two looks at how far a job is, while it is waited for."""


class Job(ABC):
    """One experiment at work, or at its end."""

    def __init__(self, experiment: Experiment, settings: Settings) -> None:
        self._experiment, self._own_settings = experiment, settings

    @property
    def experiment(self) -> Experiment:
        """What it trains."""
        return self._experiment

    @property
    def _settings(self) -> Settings:
        """Where its results are."""
        return self._own_settings

    @property
    @abstractmethod
    def id(self) -> str:
        """What the job is called where it runs."""

    @abstractmethod
    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. FAILED: at least one trial has no number."""

    @abstractmethod
    def progress(self) -> JobProgress | None:
        """How many trials are done and running, and about how many seconds are left; None while nobody knows."""

    @abstractmethod
    def logs(self) -> str:
        """What it has printed."""

    @abstractmethod
    def stop(self) -> None:
        """End it cleanly; submitting the experiment again continues it."""

    def wait(self, timeout: float | None = None, poll_s: float = 0.5, show: bool = True) -> str:
        """Wait for the end and return the status; TimeoutError after `timeout` seconds.

        It is asked every `poll_s` seconds. `show` tells how far it is: in a notebook a line with a bar that is
        redrawn, elsewhere a line on stderr whenever a trial starts or ends.
        """
        from service.notebook import Waiting

        deadline = None if timeout is None else time.monotonic() + timeout
        shown, asked = Waiting(self.id) if show else None, -_OFTEN_S
        while (status := self.status()) in ("PENDING", "RUNNING"):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.id} is still {status} after {timeout:g} s")
            if shown is not None and time.monotonic() - asked >= self._asked_every_s:
                shown(status, self.progress())
                asked = time.monotonic()
            self._pause(poll_s)
        if shown is not None:
            shown(status, self.progress())
        return status

    _asked_every_s = _OFTEN_S

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def results(self) -> pd.DataFrame:
        """One row per trial, as MLflow knows it; works while it runs, too.

        Columns: `dashboards.tables.TRIAL_COLUMNS` (`kimg` in thousands of images seen, `seconds` of training and
        evaluation), then one for each value in which the cells differ, by its dotted path in a trial
        (`optimizer.lr`; empty where a cell has no such value), then final metrics in their own units. Raises
        ServiceError when the tracking store is out of reach.
        """
        from dashboards.tables import trial_table

        return self._in_order(trial_table(self._tracked(curves=False).trials))

    def _in_order(self, table: pd.DataFrame) -> pd.DataFrame:
        """By cell, as in the YAML, and seed; with the values in which cells differ."""
        from dashboards.tables import TRIAL_COLUMNS
        from service.experiment.differing import differing
        from service.search.study import tuned

        cells = tuned(self.experiment, self._settings).cells
        order = {cell.name: place for place, cell in enumerate(cells)}
        ranked = table.assign(_place=table["cell"].map(order)).sort_values(["_place", "seed"])
        ranked = ranked.drop(columns="_place").reset_index(drop=True)
        for place, (path, values) in enumerate(differing(cells).items()):
            ranked.insert(len(TRIAL_COLUMNS) + place, path, ranked["cell"].map(values))
        return ranked

    def curves(self) -> pd.DataFrame:
        """One row per metric point, as MLflow knows it: `dashboards.tables.CURVE_COLUMNS`.

        `images` were seen by then, `kimg` is that in thousands; `value` is in the metric's own unit.
        """
        from dashboards.tables import curve_table

        return curve_table(self._tracked().curves)

    def _tracked(self, curves: bool = True) -> SweepRows:
        from service.results import tracked

        return tracked(self.experiment, self._settings, curves)

    def verdict(
        self,
        *,
        metric: str | None = None,
        baseline: str | None = None,
        margin: float | None = None,
    ) -> Verdict:
        """Every cell against the baseline, judged from the trials' directories as they are now.

        In a notebook it shows as a table; `str` of it is the sentence. `.comparisons[i].final` has the paired
        difference of a cell: `effect` and `interval` are shares of the baseline (-0.05 is 5 % less), `effects` one
        per seed. What is given takes the place of the experiment's own; `margin` is a share. Raises
        IncomparableError, with the reason, where nothing can be judged, and ServiceError where the directories are
        on another machine.
        """
        from service.notebook import Verdict

        judged = self._judged(
            metric=metric, baseline=baseline, margin=margin, strict=True, whole=False
        )
        assert judged.verdicts is not None, "a refusal is raised"
        return Verdict.of(judged.verdicts)

    def figure(self, name: str) -> Any:
        """A figure of the report as a `plotly.graph_objects.Figure`, from the trials' directories as they are now.

        `figures()` lists the names. ServiceError where there is none of that name, or where the directories are on
        another machine.
        """
        from service.figures import figure

        return figure(self.experiment, self._judged(), name)

    def figures(self) -> list[str]:
        """The names of the figures for which there is data: `convergence`, `paired_differences` ..."""
        from service.figures import available

        return available(self.experiment, self._judged())

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML report, by default into the experiment's directory, and return its path.

        Raises ServiceError where the trials' directories are on another machine.
        """
        from service.results import write_report

        result = self._judged()
        out = None if path is None else Path(path)
        return write_report(self.experiment, self._settings, result, out)

    def _judged(self, strict: bool = False, **other: Any) -> Judged:
        from service.remote.home import look_at
        from service.results import collect, judged

        look_at(self.experiment, self._settings)
        self._check_at_hand()
        sweep = collect(self.experiment, self._settings, **other)
        return judged(self.experiment, self._settings, sweep, strict=strict)

    def _check_at_hand(self) -> None:  # noqa: B027
        """Refuse where the trials' directories cannot be read from here; a job on this machine never does."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def _repr_html_(self) -> str:
        from service.notebook import job_html

        return job_html(self.id, self.status(), self.progress())


class JobHere(Job):
    """One whose trials are in this machine's home: their records say it all, sooner than a server and much faster."""

    def results(self) -> pd.DataFrame:
        """One row per trial, see `Job.results`; `run_id` as far as MLflow has been told."""
        from service.recorded import is_at_work
        from service.results import collect
        from service.tracking.readback import run_ids
        from trainer.report import Status

        table = collect(self.experiment, self._settings, whole=False).trials
        known = run_ids(self.experiment, self._settings)
        may_work = self.status() in ("PENDING", "RUNNING")
        runs, statuses = list[Any](), list[Any]()
        for trial in table.to_dict("records"):
            runs.append(known.get((trial["cell"], trial["seed"])))
            status, key = Status(trial["status"]), trial["trial_key"]
            works = not status.is_over and is_at_work(key, self._settings, may_work)
            statuses.append(Status.RUNNING if works else status)
        return self._in_order(table.assign(run_id=runs, status=statuses))

    def curves(self) -> pd.DataFrame:
        """One row per metric point, see `Job.curves`."""
        from service.results import collect

        return collect(self.experiment, self._settings).curves
