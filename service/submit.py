"""How does an experiment get to a cluster, and how is it watched and stopped there?

A thin layer over Ray's job submission: what is sent is the code beside this file and the experiment,
a megabyte or so, to run as `python -m service run`. The uploaded code is what runs, whatever the cluster
has installed. An experiment is one job at a time, wherever it is submitted from and with whatever options;
the same one submitted again continues: only its attempt number rises.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import head
from service.command_line import diffsweep
from service.errors import ServiceError
from service.job_progress import JobProgress
from service.settings import load
from service.staging import check_sendable, entrypoint, metadata, staged, variables
from service.tracking.server import one_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from service.experiment import Experiment
    from service.settings import Settings

Env = Mapping[str, str]
_RUNNING = ("PENDING", "RUNNING")
_OURS = re.compile(r"""(?:-m service|\bdiffsweep) run (?:(['"])(.+?)\1|(\S+))""")
"""The command of an experiment that was submitted with Ray alone."""
_ENDED = {
    "1": "not all trials have a number",
    "2": "the experiment is not valid there",
    "3": "something that it needs is not there",
}
"""Exit code of a driver to what it says."""


@dataclass(frozen=True)
class Submission:
    """A job on a cluster."""

    id: str
    experiment: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str = ""
    """Why it waits or failed, in a few words; its log says more."""
    started_ms: int | None = None
    ended_ms: int | None = None
    progress: JobProgress | None = None
    """How many of its trials are done, as far as that was asked and its log says it."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment that it was given."""
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What Ray keeps of the experiment, see `service.staging.metadata`."""

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.status not in _RUNNING

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        told = asdict(self)
        return {name: told[name] for name in told if name not in ("variables", "metadata")}


class Jobs:
    """The jobs of one cluster. Every method raises `ServiceError` when it cannot be reached."""

    def __init__(self, address: str, found_as: str | None = None) -> None:
        """`found_as` is what a command would find without `--address`, if that is known."""
        self.address, self._found_as = address, found_as
        with self._reaching():
            self._client = _client(address)

    def command(self, *words: str) -> str:
        """A `diffsweep` command about a job here, with `--address` where it takes that."""
        where = () if self.address == self._found_as else ("--address", self.address)
        return diffsweep(*words, *where)

    def submit(
        self,
        experiment: Experiment,
        settings: Settings,
        env: Mapping[str, str] | None = None,
    ) -> Submission:
        """Send an experiment; `env` are variables for the job. Refuses while it is already running."""
        check_sendable(experiment)
        given, name = variables(settings, env), experiment.name
        every = self._every()
        for job in every:
            if job.experiment == name and not job.is_over:
                raise self._at_work(name, job.id)
        self._refuse_driver(name, settings, given.get("DIFFSWEEP_HOME"))
        ids = [job.id.rpartition("-") for job in every]
        attempts = [
            int(number) for before, _, number in ids if before == name and number.isdecimal()
        ]
        job_id = f"{name}-{1 + max(attempts, default=0)}"
        with staged(experiment) as (folder, file):
            line = entrypoint(file, experiment.options, self.python())
            try:
                self.begin(job_id, line, folder, given, metadata(experiment))
            except ServiceError as error:
                if "already exists" in str(error):  # somebody was quicker
                    raise self._at_work(name, job_id) from None
                raise
        return self.status(job_id)

    def begin(self, job_id: str, line: str, folder: Path, given: Env, known: Env) -> None:
        """Send a folder with a command and variables; `known` is what Ray keeps of it."""
        with self._reaching():
            self._client.submit_job(
                entrypoint=line,
                submission_id=job_id,
                runtime_env={"working_dir": str(folder), "env_vars": dict(given)},
                metadata=dict(known),
                entrypoint_num_cpus=0,
            )

    def forget(self, job_id: str) -> None:
        """End a job and take it off the cluster's list, as far as that works."""
        deadline = time.monotonic() + 10.0
        with contextlib.suppress(Exception):
            if not self.status(job_id).is_over:
                self._client.stop_job(job_id)
            while not self.status(job_id).is_over and time.monotonic() < deadline:
                time.sleep(0.2)
            self._client.delete_job(job_id)

    def python(self) -> str:
        """The interpreter that Ray's workers on the head have: its environment need not be on the PATH of jobs."""
        return head.interpreter(self._client)

    def _at_work(self, name: str, job_id: str) -> ServiceError:
        follow, end = self.command("logs", "-f", job_id), self.command("stop", job_id)
        return ServiceError(
            f"{name} is running already, as {job_id}",
            f"follow it with `{follow}`, end it with `{end}`; another one takes a name of its own: -o name=NAME",
        )

    def _refuse_driver(self, name: str, settings: Settings, home: str | None) -> None:
        """Refuse where the job's home can be seen from here and a driver is at work in it, of whatever kind."""
        from service.sole_driver import refuse_second

        if home is not None:
            refuse_second(settings.model_copy(update={"home": load(home=home).home}), name)

    def status(self, job_id: str) -> Submission:
        """One job."""
        with self._reaching(job_id):
            return self._named(_submission(self._client.get_job_info(job_id)))

    def find(self, named: str) -> Submission:
        """A job by its id, or the newest one of an experiment by its name."""
        try:
            return self.status(named)
        except ServiceError:
            if found := next((job for job in self.list() if job.experiment == named), None):
                return found
            raise

    def _every(self) -> list[Submission]:
        with self._reaching():
            jobs = [_submission(job) for job in self._client.list_jobs() if job.submission_id]
        with ThreadPoolExecutor(8) as pool:
            named = list(pool.map(self._named, jobs))
        return sorted(named, key=lambda job: job.started_ms or 0, reverse=True)

    def _named(self, job: Submission) -> Submission:
        """Of a job that was submitted with Ray alone, the log knows which experiment it is; its file's name may."""
        if not job.experiment or "experiment" in job.metadata:
            return job
        told = self.progress(job.id)
        return job if told is None else replace(job, experiment=told.experiment, progress=told)

    def progress(self, job_id: str) -> JobProgress | None:
        """How many trials are done, by the job's log; None while it does not say so."""
        try:
            return JobProgress.read(self.logs(job_id))
        except ServiceError:  # its node is gone, or it has not begun
            return None

    def with_progress(self, jobs: list[Submission]) -> list[Submission]:
        """The same jobs, each with how far it is."""

        def ask(job: Submission) -> Submission:
            return job if job.progress else replace(job, progress=self.progress(job.id))

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(ask, jobs))

    def logs(self, job_id: str) -> str:
        """Everything that the job has printed."""
        with self._reaching(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str) -> Iterator[str]:
        """What the job prints, as it prints it, until it ends."""
        import asyncio

        tail: AsyncIterator[str] = self._client.tail_job_logs(job_id)
        loop = asyncio.new_event_loop()
        with (
            contextlib.closing(loop),
            ThreadPoolExecutor(1) as thread,
        ):  # a notebook's own loop runs in this one
            while True:
                with self._reaching(job_id):
                    text = thread.submit(loop.run_until_complete, anext(tail, None)).result()
                if text is None:
                    return
                yield text

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; it finishes its bookkeeping. False if it had ended."""
        with self._reaching(job_id):
            return bool(self._client.stop_job(job_id))

    @contextlib.contextmanager
    def _reaching(self, job_id: str | None = None) -> Iterator[None]:
        try:
            yield
        except ServiceError:
            raise
        except Exception as error:
            text, kind = str(error), type(error).__name__
            if isinstance(error, ConnectionError) or kind == "ConnectionError":  # of requests
                raise ServiceError(
                    f"no Ray cluster answers at {self.address}",
                    "start one with `ray start --head`, or give its dashboard's address with --address",
                ) from None
            if job_id is not None and ("404" in text or "does not exist" in text):
                raise ServiceError(
                    f"{self.address} knows no job {job_id}",
                    f"see `{self.command('status')}` for the jobs it has",
                ) from None
            if kind == "AuthenticationError" or "401" in text or "403" in text:
                raise ServiceError(
                    f"{self.address} refuses this user's token",
                    "copy the cluster's token to ~/.ray/auth_token (mode 600), or set RAY_AUTH_TOKEN",
                ) from None
            raise ServiceError(
                f"Ray at {self.address}: {one_line(error)}",
                "look at the cluster's dashboard at that address, or at its logs in /tmp/ray",
            ) from error

    def list(self) -> list[Submission]:
        """All jobs of this cluster that run experiments, whoever submitted them, the newest first."""
        return [job for job in self._every() if job.experiment]


def _client(address: str) -> JobSubmissionClient:
    from service.cluster.joining import environment, use_token

    use_token()
    from ray.job_submission import JobSubmissionClient

    with environment(
        {"RAY_API_SERVER_ADDRESS": address}
    ):  # Ray lets the variable win over what is given
        return JobSubmissionClient(address)


def _submission(job: Any) -> Submission:
    status, known = str(getattr(job.status, "value", job.status)), job.metadata or {}
    command = _OURS.search(job.entrypoint or "")
    return Submission(
        id=job.submission_id or "",
        experiment=known.get("experiment")
        or (Path(command[2] or command[3]).stem if command else ""),
        status=status,
        message=_why(status, job.message or ""),
        started_ms=job.start_time,
        ended_ms=job.end_time,
        variables=(job.runtime_env or {}).get("env_vars") or {},
        metadata=known,
    )


def _why(status: str, message: str) -> str:
    """In a few words why a job waits or failed: Ray's message has the job's log in it."""
    first = message.strip().splitlines()[0] if message.strip() else ""
    if status == "PENDING":
        return first.partition(". ")[0].rstrip(".")[:100]
    if status != "FAILED":
        return ""
    code = re.search(r"failed with exit code (-?\d+)", first)
    if code:
        return f"exit code {code[1]}: {_ENDED.get(code[1], 'its log says why')}"
    return first[:100]
