"""How does an experiment get to a cluster, and how is it watched and stopped there?

A thin layer over Ray's job submission: what is sent is the code beside this file and the experiment,
a megabyte or so, to run as `python -m service run`. The uploaded code is what runs, whatever the cluster
has installed. The same experiment submitted again continues: only its attempt number rises.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.command_line import diffsweep
from service.errors import ServiceError
from service.tracking.server import is_server, one_line
from trainer.errors import InputError
from trainer.yaml.source import read
from trainer.yaml.writer import yaml_document

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from service.experiment import Experiment
    from service.settings import Settings

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ROOT = Path(__file__).resolve().parent.parent
SENT = ("trainer", "service", "dashboards", "experiments", "pyproject.toml")
"""What of the checkout (or of site-packages) goes to the cluster."""
_RUNNING = ("PENDING", "RUNNING")
_OF_HERE = ("DIFFSWEEP_RAY_ADDRESS", "DIFFSWEEP_TRACKING_URI")
"""The job is inside its cluster; the tracking server is sent under MLflow's name."""
_PATHS = ("DIFFSWEEP_HOME", "DIFFSWEEP_DATA")
_LOCAL_STORES = ("sqlite:", "file:", "/", ".")


@dataclass(frozen=True)
class Submission:
    """A job on a cluster."""

    id: str
    experiment: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str = ""
    started_ms: int | None = None
    ended_ms: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.status not in _RUNNING


def address_of(settings: Settings, given: str | None = None) -> str:
    """The cluster's HTTP address: as given, from RAY_API_SERVER_ADDRESS or RAY_ADDRESS, or here."""
    for address in (given, os.environ.get("RAY_API_SERVER_ADDRESS"), settings.ray_address):
        if address and is_server(address):
            return address.rstrip("/")
    return DEFAULT_ADDRESS


class Jobs:
    """The jobs of one cluster. Every method raises `ServiceError` when it cannot be reached."""

    def __init__(self, address: str) -> None:
        self.address = address
        with self._reaching():
            self._client = _client(address)

    def submit(
        self,
        experiment: Experiment,
        settings: Settings,
        env: Mapping[str, str] | None = None,
    ) -> Submission:
        """Send an experiment; `env` are variables for the job. Refuses while it is already running."""
        begins = f"{experiment.name}-{_digest(experiment)}-"
        earlier = [job for job in self.list() if job.id.startswith(begins)]
        for job in earlier:
            if not job.is_over:
                raise ServiceError(
                    f"{experiment.name} is running already, as {job.id}",
                    f"follow it with `{diffsweep('logs', job.id)}`, "
                    f"end it with `{diffsweep('stop', job.id)}`",
                )
        attempts = [job.id.rpartition("-")[2] for job in earlier]
        attempt = 1 + max((int(number) for number in attempts if number.isdecimal()), default=0)
        with _staged(experiment) as (folder, file), self._reaching():
            submitted = self._client.submit_job(
                entrypoint=_entrypoint(file, experiment.options),
                submission_id=f"{begins}{attempt}",
                runtime_env={"working_dir": str(folder), "env_vars": _variables(settings, env)},
                metadata={"experiment": experiment.name},
                entrypoint_num_cpus=0,
            )
        return self.status(submitted)

    def status(self, job_id: str) -> Submission:
        """One job."""
        with self._reaching(job_id):
            return _submission(self._client.get_job_info(job_id))

    def list(self) -> list[Submission]:
        """All jobs that were submitted to this cluster by diffsweep, the newest first."""
        with self._reaching():
            ours = [job for job in self._client.list_jobs() if "experiment" in (job.metadata or {})]
        jobs = [_submission(job) for job in ours]
        return sorted(jobs, key=lambda job: job.started_ms or 0, reverse=True)

    def logs(self, job_id: str) -> str:
        """Everything that the job has printed."""
        with self._reaching(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str) -> Iterator[str]:
        """What the job prints, as it prints it, until it ends."""
        import asyncio

        tail: AsyncIterator[str] = self._client.tail_job_logs(job_id)
        loop = asyncio.new_event_loop()
        try:
            while True:
                try:
                    with self._reaching(job_id):
                        text = loop.run_until_complete(anext(tail))
                except StopAsyncIteration:
                    return
                yield text
        finally:
            loop.close()

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; it finishes its bookkeeping. False if it had ended."""
        with self._reaching(job_id):
            return bool(self._client.stop_job(job_id))

    @contextlib.contextmanager
    def _reaching(self, job_id: str | None = None) -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            raise ServiceError(
                f"no Ray cluster answers at {self.address}",
                "start one with `ray start --head`, or give its dashboard's address with --address",
            ) from None
        except (StopAsyncIteration, GeneratorExit):
            raise
        except Exception as error:
            text = str(error)
            if job_id is not None and ("404" in text or "does not exist" in text):
                raise ServiceError(
                    f"{self.address} knows no job {job_id}",
                    f"see `{diffsweep('status')}` for the jobs it has",
                ) from None
            if type(error).__name__ == "AuthenticationError" or "401" in text or "403" in text:
                raise ServiceError(
                    f"{self.address} refuses this user's token",
                    "copy the cluster's token to ~/.ray/auth_token (mode 600), or set RAY_AUTH_TOKEN",
                ) from None
            raise ServiceError(
                f"Ray at {self.address}: {one_line(error)}",
                "look at the cluster's dashboard at that address, or at its logs in /tmp/ray",
            ) from error


def _client(address: str) -> JobSubmissionClient:
    from service.cluster.connect import use_token

    use_token()
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address)


def _submission(job: Any) -> Submission:
    return Submission(
        id=job.submission_id or "",
        experiment=(job.metadata or {}).get("experiment", ""),
        status=str(getattr(job.status, "value", job.status)),
        message=job.message or "",
        started_ms=job.start_time,
        ended_ms=job.end_time,
    )


def _digest(experiment: Experiment) -> str:
    import hashlib
    import json

    text = json.dumps(experiment.resolved(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _entrypoint(file: str, options: tuple[str, ...]) -> str:
    words = ["python", "-m", "service", "run", file]
    for option in options:
        if option.partition("=")[0].strip() != "base":  # the sent file has that preset written out
            words += ["-o", option]
    return shlex.join(words)


def _variables(settings: Settings, env: Mapping[str, str] | None) -> dict[str, str]:
    """What the job gets: this shell's own variables, the tracking server, and `env`, which wins.

    What means something on this machine only stays here: defaults, relative paths, local databases.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("DIFFSWEEP_") and name not in _OF_HERE and _travels(name, value)
    }
    tracking = settings.tracking_uri
    if tracking and not tracking.startswith(_LOCAL_STORES):
        own["MLFLOW_TRACKING_URI"] = tracking
    return {**own, **(env or {})}


def _travels(name: str, value: str) -> bool:
    return value.startswith(("/", "~")) if name in _PATHS else bool(value)


@contextlib.contextmanager
def _staged(experiment: Experiment) -> Iterator[tuple[Path, str]]:
    """A folder with the code and the experiment, and the experiment's path in it."""
    with tempfile.TemporaryDirectory(prefix="diffsweep-") as scratch:
        folder = Path(scratch) / "diffsweep"
        folder.mkdir()
        for name in SENT:
            source = ROOT / name
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(source, folder / name, ignore=ignore)
            elif source.exists():
                shutil.copy2(source, folder / name)
        yield folder, _place(experiment, folder)


def _says(file: Path, whole: Mapping[str, Any], folder: Path) -> bool:
    """Whether a sent file, with its preset, is this experiment to the letter."""
    data = read(file).data
    base = data.get("base") if isinstance(data, dict) else None
    if isinstance(base, str):
        preset = (file.parent / base).resolve()
        if not preset.is_relative_to(folder.resolve()):
            return False
        data = {**data, "base": read(preset).data}
    return isinstance(data, dict) and yaml_document(data) == yaml_document(whole)


def _place(experiment: Experiment, folder: Path) -> str:
    """The experiment's YAML in the folder: its own file if that means the same there, else one written for it."""
    assert experiment.whole, "an experiment that was restored has no YAML to send"
    original = experiment.folder / Path(experiment.file).name
    with contextlib.suppress(ValueError, OSError, InputError):
        path = original.resolve().relative_to(ROOT)
        if _says(folder / path, experiment.whole, folder):
            return str(path)
    path = Path(f"{experiment.name}.yaml")
    (folder / path).write_text(yaml_document(experiment.whole), encoding="utf-8")
    return str(path)
