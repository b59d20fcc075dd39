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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.causes import cause, is_lost_peer, last_line
from service.remote.carrier import Carrier, carried
from service.settings import load

if TYPE_CHECKING:
    from trainer.lease import Lease
    from trainer.record import Record
    from trainer.report import Failure, Report

MESSAGE = "diffsweep"
"""Key of a message among the metrics that Ray carries."""
TRAIN_ENVIRONMENT = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # 2 s by default for a stopped trial to let its actor go
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
    until_images: int
    """Where it pauses; the whole budget ends it."""
    remote: str = ""
    """URI of the store that the home mirrors, if it does: each machine then has its own folders."""
    private: bool = False
    """Whether only this user may read what is written."""

    @classmethod
    def of(cls, config: dict[str, Any]) -> Job:
        """From what Tune passes to a trainable, with the folders of this machine."""
        job = cls(**json.loads(config["job"]))
        if not job.remote:
            return job
        here = load(home=job.remote)
        return replace(job, directory=str(here.trial(job.key)), cache=str(here.cache))

    def text(self) -> str:
        """Inverse of `of`."""
        return json.dumps(asdict(self))

    @property
    def record(self) -> Record:
        """Its directory."""
        from trainer.record import Record

        return Record(Path(self.directory))


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

    _fit(config, gang.trainer_class(), Relay(), tune.report)


def trial_in_stock(config: dict[str, Any]) -> None:
    """Tune trainable for a Ray without the gang's seams: the stock TorchTrainer."""
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    _fit(config, TorchTrainer, TuneReportCallback(), tune.report)


def trial_in_place(config: dict[str, Any]) -> None:
    """Tune trainable: train inside the Tune actor."""
    from ray import tune

    run_trial(Job.of(config), lambda message: tune.report(flat(message)))


def _fit(
    config: dict[str, Any],
    trainer: type[Any],
    relay: Any,
    report: Callable[[dict[str, Any]], None],
) -> None:
    from ray import train
    from ray.train.torch import TorchConfig

    from service.resources import Resources

    os.environ.update(TRAIN_ENVIRONMENT)
    job, resources = Job.of(config), Resources.model_validate_json(config["resources"])
    fitted = trainer(
        _worker_loop,
        train_loop_config={"job": job.text()},
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker=resources.per_worker,
        ),
        run_config=train.RunConfig(
            name=f"{job.key}-{time.time_ns()}",  # never Train's own restore: the trial's directory knows
            storage_path=str(job.record.scratch),
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
    load(private=job.private).keep_private()
    with carried(job.remote, job.key, send, rank, world) as carrier:
        return _run(job, carrier, rank, world)


def _run(job: Job, carrier: Carrier, rank: int, world: int) -> bool:
    failure = job.record.failure()
    if failure is not None and failure.attempt == job.attempt:
        carrier.send(_message_of(job.record, failure))
        return False
    try:
        with _claim(job.record, rank) as lease:
            carrier.even()
            _barrier(world)
            carrier.follow()
            _train(job, carrier.send, lease)
            return True
    except Exception as error:
        if world > 1 and is_lost_peer(error):
            raise
        message = _failed(job, cause(error), traceback.format_exc())
        if world > 1:  # ends the whole group; the next one finds the failure and tells it
            raise
        carrier.send(message)
        return False


def _train(job: Job, send: Send, lease: Lease | None) -> None:
    from trainer.loop import train
    from trainer.trial import TrialSpec

    record = job.record
    if record.result() is None:
        trial = TrialSpec.model_validate_json(job.trial)
        reports = train(
            trial,
            record.directory,
            cache=Path(job.cache),
            data_root=Path(job.data_root),
            until_images=job.until_images,
        )
        for report in reports:
            if lease is not None:
                lease.check()
            send(_reported(record, report))
    if (result := record.result()) is not None:
        send({"event": "ended", "result": asdict(result)})
        return
    known = record.reports()
    images = known[-1].images if known else 0
    assert images >= job.until_images, "a trial ends with a result, or where it was to pause"
    send({"event": "paused", "images": images})


def _reported(record: Record, report: Report) -> Message:
    message: Message = {"event": "reported", "report": report.to_json()}
    if (png := record.sample(report)) is not None:
        message["png"] = base64.b64encode(png).decode()
    return message | {"images": report.images, "metrics": report.metrics}


def flat(message: Message) -> dict[str, Any]:
    """A message as Ray metrics: one JSON text, and the scalars beside it for schedulers."""
    scalars = {name: float(value) for name, value in message.pop("metrics", {}).items()}
    return {**scalars, "images": message.get("images", 0), MESSAGE: json.dumps(message)}


@contextmanager
def _claim(record: Record, rank: int) -> Iterator[Lease | None]:
    """Hold the trial's directory. A driver that was just killed may hold it for a moment longer."""
    if rank > 0:
        yield None
        return
    with record.writer(wait_s=60.0) as lease:
        record.clear_failure()
        yield lease


def _barrier(world: int) -> None:
    if world > 1:
        import torch.distributed

        torch.distributed.barrier()


def _failed(job: Job, reason: str, full: str = "") -> Message:
    from trainer.report import Failure

    kept = job.record.write_failure(Failure(reason, job.attempt), full)
    return _message_of(job.record, kept, full)


def _message_of(record: Record, failure: Failure, full: str = "") -> Message:
    """With the story itself: the driver may not reach this disk, or it is full."""
    text = record.failure_text() or full
    return {"event": "failed", "reason": failure.reason, "log": failure.log, "text": text}


def parse(text: str) -> Message:
    """A message from the JSON that travelled in Ray's metrics."""
    message: Message = json.loads(text)
    return message
