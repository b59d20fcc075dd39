"""What happens on the machine that trains? One trial, from its lock to its last message.

`trial_in_gang` and `trial_in_place` are the two Tune trainables (`launcher: train` and `inproc`).
Both end in `run_trial`, which calls the trainer's loop and sends every report upward as one message:
JSON, so that nothing needs unpickling, plus the numbers a Tune scheduler may want to see.
"""

from __future__ import annotations

import base64
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.lock import FileLock, HeldError

if TYPE_CHECKING:
    from trainer.report import Report

MESSAGE = "diffsweep"
"""Key of a message among the metrics that Ray carries."""
LOCK, FAILURE_LOG, FAILURE = "writer.lock", "failure.log", "failure.json"
"""Files of a trial's directory that are ours; all others are the trainer's."""
TRAIN_ENVIRONMENT = {
    "PL_DISABLE_FORK": "1",  # Tune adds it: with the job's environment equal, processes are pooled
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # 2 s by default, and every report waits for it
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
}
"""What Ray Train reads in the driver, in the trial's actor and in its workers."""
RETRIES = 2
"""How often a lost worker, actor or node is replaced."""
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_LESS_MEMORY = "lower train.microbatch (training) or evaluation.batch_size (generation)"
_LOST_PEER = ("closed by peer", "connection reset", "gloo", "nccl", "broken pipe", "socket")

Message = dict[str, Any]
Send = Callable[[Message], None]


@dataclass(frozen=True)
class Job:
    """One trial as it travels to its workers."""

    key: str
    trial: str
    """The TrialSpec as JSON."""
    directory: str
    cache: str
    data_root: str
    attempt: str
    """Which run of the driver sent it: a failure recorded under this name is not tried again."""
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(cls, config: dict[str, Any]) -> Job:
        """From what Tune passes to a trainable."""
        return cls(**json.loads(config["job"]))

    def text(self) -> str:
        """Inverse of `of`."""
        return json.dumps(asdict(self))

    @property
    def per_worker(self) -> dict[str, float]:
        """Ray resources of one worker."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


def trial_in_gang(config: dict[str, Any]) -> None:
    """Tune trainable: one TorchTrainer whose workers live in the trial's placement group."""
    from ray import tune
    from ray.train import UserCallback

    from service.cluster import gang

    class Relay(UserCallback):  # type: ignore[misc]
        def after_report(
            self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
        ) -> None:
            tune.report(metrics[0])

    _fit(Job.of(config), gang.trainer_class(), Relay(), tune.report)


def trial_in_stock(config: dict[str, Any]) -> None:
    """Tune trainable for a Ray without the gang's seams: the stock TorchTrainer."""
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    _fit(Job.of(config), TorchTrainer, TuneReportCallback(), tune.report)


def trial_in_place(config: dict[str, Any]) -> None:
    """Tune trainable: train inside the Tune actor."""
    from ray import tune

    run_trial(Job.of(config), lambda message: tune.report(flat(message)))


def _fit(
    job: Job, trainer: type[Any], relay: Any, report: Callable[[dict[str, Any]], None]
) -> None:
    from ray import train
    from ray.train.torch import TorchConfig

    os.environ.update(TRAIN_ENVIRONMENT)
    fitted = trainer(
        _worker_loop,
        train_loop_config={"job": job.text()},
        torch_config=TorchConfig(backend="nccl" if job.gpus else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=job.workers, use_gpu=job.gpus > 0, resources_per_worker=job.per_worker
        ),
        run_config=train.RunConfig(
            name=f"{job.key}-{time.time_ns()}",  # never Train's own restore: the trial's directory knows
            storage_path=str(Path(job.directory) / "train"),
            failure_config=train.FailureConfig(max_failures=RETRIES),
            callbacks=[relay],
        ),
    )
    try:
        fitted.fit()
    except train.TrainingFailedError as error:
        lost = f"its workers died {RETRIES + 1} times: {last_line(str(error))}"
        report(flat(_failed(job, lost, str(error))))


def _worker_loop(config: dict[str, Any]) -> bool:
    """Runs in each Ray Train worker, with torch.distributed set up by Ray Train.

    True says that the process may train another trial: an error may leave a GPU unusable.
    """
    from ray import train

    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()

    def send(message: Message) -> None:
        train.report(flat(message) if rank == 0 else {})

    return run_trial(Job.of(config), send, rank, world)


def run_trial(job: Job, send: Send, rank: int = 0, world: int = 1) -> bool:
    """Train one trial in its directory and tell `send` about it; every rank sends equally often.

    Returns whether it went well.

    A trial's own error is told, not raised: trying again would only repeat it. What looks like the
    loss of another worker is raised, for Ray to replace the worker.
    """
    directory = Path(job.directory)
    if (known := _known_failure(job)) is not None:
        send(known)
        return False
    try:
        with _claim(directory, rank):
            _barrier(world)
            _train(job, send)
            return True
    except Exception as error:
        if world > 1 and _lost_peer(error):
            raise
        message = _failed(job, _reason(error), traceback.format_exc())
        if world > 1:  # ends the whole group; the next one finds the failure and tells it
            raise
        send(message)
        return False


def _train(job: Job, send: Send) -> None:
    from trainer.loop import train
    from trainer.report import read_result
    from trainer.trial import TrialSpec

    directory = Path(job.directory)
    if read_result(directory) is None:
        trial = TrialSpec.model_validate_json(job.trial)
        reports = train(trial, directory, cache=Path(job.cache), data_root=Path(job.data_root))
        for report in reports:
            send(_reported(directory, report))
    result = read_result(directory)
    assert result is not None, "a trial that ends writes its result"
    send({"event": "ended", "result": asdict(result)})


def _reported(directory: Path, report: Report) -> Message:
    message: Message = {"event": "reported", "report": report.to_json()}
    png = directory / report.sample_png if report.sample_png else None
    if png is not None and png.exists():
        message["png"] = base64.b64encode(png.read_bytes()).decode()
    return message | {"images": report.images, "metrics": report.metrics}


def flat(message: Message) -> dict[str, Any]:
    """A message as Ray metrics: one JSON text, and the scalars beside it for schedulers."""
    scalars = {name: float(value) for name, value in message.pop("metrics", {}).items()}
    return {**scalars, "images": message.get("images", 0), MESSAGE: json.dumps(message)}


@contextmanager
def _claim(directory: Path, rank: int) -> Iterator[None]:
    """Hold the trial's directory. A driver that was just killed may hold it for a moment longer."""
    if rank > 0:
        yield
        return
    with FileLock(directory / LOCK, wait_s=60.0):
        yield


def _barrier(world: int) -> None:
    if world > 1:
        import torch.distributed

        torch.distributed.barrier()


def _failed(job: Job, reason: str, full: str = "") -> Message:
    directory = Path(job.directory)
    message = {"event": "failed", "reason": reason, "log": str(directory / FAILURE_LOG)}
    directory.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    with open(directory / FAILURE_LOG, "a") as log:
        log.write(f"{stamp} {reason}\n{full}\n")
    partial = directory / f"{FAILURE}.partial"
    partial.write_text(json.dumps({**message, "attempt": job.attempt}))
    partial.replace(directory / FAILURE)
    return message


def _known_failure(job: Job) -> Message | None:
    try:
        message: Message = json.loads((Path(job.directory) / FAILURE).read_text())
    except (OSError, ValueError):
        return None
    return message if message.pop("attempt", None) == job.attempt else None


def _lost_peer(error: BaseException) -> bool:
    import torch.distributed

    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _LOST_PEER)


def _reason(error: BaseException) -> str:
    from trainer.errors import EnvironmentProblem, UserError

    if isinstance(error, UserError | EnvironmentProblem):
        return str(error)
    if isinstance(error, HeldError):
        return f"another run is training it ({error.holder}): run again when that is done"
    said = f"{type(error).__name__}: {last_line(str(error))}"
    return f"{said}: {_LESS_MEMORY}" if _out_of_memory(error) else said


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _NO_MEMORY)


def parse(text: str) -> Message:
    """A message from the JSON that travelled in Ray's metrics."""
    message: Message = json.loads(text)
    return message


def last_line(text: str) -> str:
    """The last line of a text that says anything: of a traceback, the error."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
