"""How does a notebook or a script use diffsweep? `Client().submit(Experiment.from_yaml(path)).results()`.

Without an address a client trains here, in a thread; with one it submits to that Ray cluster. Jobs feel the same,
and any of them can be taken up again: `Client().jobs()`, `Client().job("quickstart")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ServiceError
from service.experiment import Experiment
from service.experiment.saved import SAVED, read_saved
from service.job import Job
from service.job_kinds import ClusterJob, LocalJob, RecordedJob
from service.notebook import JobList
from service.remote.home import look_around
from service.settings import Settings
from service.settings import load as load_settings
from trainer.errors import suggestion

if TYPE_CHECKING:
    from service.planning.plan import Plan
    from service.progress import Event
    from service.submit import Jobs, Submission
    from trainer.trial import TrialSpec

__all__ = ["Client", "Experiment", "Job"]


class Client:
    """The way in. `Client()` trains on this machine, `Client("http://head:8265")` on that cluster.

    An address may lack `http://` and port, and wins over RAY_API_SERVER_ADDRESS.
    """

    def __init__(self, address: str | None = None, settings: Settings | None = None) -> None:
        if not isinstance(address, str | None):
            raise TypeError(
                f"Client takes the address of a cluster, such as 'http://head:8265', or None for this machine, not "
                f"{address!r:.60}"
            )
        self.settings = settings or load_settings()
        self.address = address
        self._jobs: Jobs | None = None
        if address is not None:
            from service.address import address_of
            from service.submit import Jobs

            there, default = address_of(self.settings, address), address_of(self.settings)
            self._jobs = Jobs(there, found_as=default)

    def submit(
        self,
        experiment: Experiment | str | Path,
        env: Mapping[str, str] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Job:
        """Start an experiment, or continue it: trials that are finished are not trained again.

        `env` are environment variables of the job on a cluster; `on_event` sees progress on this machine.
        Raises ServiceError at once where the experiment is at work already; `job` takes that up.
        """
        experiment = self._read(experiment)
        if self._jobs is None:
            from service.sole_driver import refuse_second

            refuse_second(self.settings, experiment.name)
            if LocalJob.at_work(self.settings, experiment.name) is not None:
                raise ServiceError(
                    f"{experiment.name} is being run by this process",
                    f"wait for it: `client.job({experiment.name!r}).wait()`",
                )
            return LocalJob(experiment, self.settings, on_event)
        there = self._jobs.submit(experiment, self.settings, env)
        return ClusterJob(experiment, self.settings, self._jobs, there.id, there.variables)

    def plan(
        self,
        experiment: Experiment | str | Path,
        *,
        budget: str | None = None,
        at_once: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Plan:
        """What `submit` would do and cost: `.wall_s`, `.gpu_hours`, `.disk_bytes`, `.money` at DIFFSWEEP_PRICE.

        A few steps are timed where it would train: on this machine, or in a job of seconds on the cluster's own
        hardware. A `budget` such as "40gpuh" or "200cpuh" asks for designs that fit: `.proposals.recommended`.
        Raises ServiceError where the cluster does not answer, or no worker gets what a trial needs within half a
        minute, and UserError for what can never be trained or is no budget.
        """
        from service.experiment.budget import Budget
        from service.planning.plan import plan_here

        experiment, limit = self._read(experiment), None if budget is None else Budget.of(budget)
        if self._jobs is None:
            look_around(self.settings)
            return plan_here(experiment, self.settings, at_once, limit)
        from service.planning.there import plan_there

        return plan_there(experiment, self.settings, self._jobs, at_once, limit, env)

    def _read(self, experiment: Experiment | str | Path) -> Experiment:
        if isinstance(experiment, Experiment):
            return experiment
        if not isinstance(experiment, str | Path):
            raise TypeError(
                f"takes an Experiment, or the path of its YAML, not {experiment!r:.60}: a mapping is read by "
                "Experiment.from_mapping(data)"
            )
        data, home = self.settings.data, self.settings.home
        return Experiment.from_yaml(experiment, data_root=data, home=home)

    def launch(
        self, trial: TrialSpec, name: str | None = None, env: Mapping[str, str] | None = None
    ) -> Job:
        """Train a single trial, as an experiment of one cell and one seed."""
        base = trial.model_dump(mode="json", exclude={"seed"})
        name = name or f"trial-{trial.digest()[:8]}"
        whole = {"name": name, "base": base, "seeds": [trial.seed]}
        data, home = self.settings.data, self.settings.home
        return self.submit(Experiment.from_mapping(whole, data_root=data, home=home), env)

    def jobs(self) -> JobList:
        """The experiments of this machine's home, or of the cluster, running and ended ones, the newest first."""
        if self._jobs is not None:
            return JobList(self._taken_up(there) for there in self._jobs.list())
        look_around(self.settings)
        return JobList(self._recorded(name) for name in self._names())

    def job(self, name: str) -> Job:
        """A job that was begun before, here or anywhere: by its experiment's name, or on a cluster by its id.

        Raises ServiceError where there is none.
        """
        if self._jobs is not None:
            return self._taken_up(self._jobs.find(name))
        look_around(self.settings)
        return self._recorded(name)

    def _recorded(self, name: str) -> Job:
        """One of this machine's home."""
        if (mine := LocalJob.at_work(self.settings, name)) is not None:
            return mine
        try:
            found = read_saved(self.settings.experiment(name))
        except OSError:
            known = suggestion(name, self._names())
            raise ServiceError(
                f"{self.settings.place} has no experiment {name}{known}",
                "give DIFFSWEEP_HOME the folder that has it, or submit its YAML",
            ) from None
        return RecordedJob(found, self.settings)

    def _names(self) -> list[str]:
        files = self.settings.home.glob(f"experiments/*/{SAVED}")
        newest = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
        return [file.parent.name for file in newest]

    def _taken_up(self, there: Submission) -> Job:
        assert self._jobs is not None, "only a cluster has them"
        return ClusterJob.of(there, self.settings, self._jobs)

    def __repr__(self) -> str:
        return f"Client({self.address or 'this machine'!r})"
