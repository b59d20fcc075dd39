"""What happens on the machine that trains? One trial, from its lock to its last message.

The trainables of `service.cluster.trainables` end in `run_trial`, or in `service.ensemble`, which call the trainer's
loop and send every report upward as one message: JSON, so that nothing needs unpickling.
"""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.causes import cause, is_lost_peer
from service.remote.carrier import Carrier, carried
from service.settings import for_owner_alone, load

if TYPE_CHECKING:
    from trainer.keeper import Due
    from trainer.lease import Lease
    from trainer.leaving import Told
    from trainer.loop import Stepwise
    from trainer.passes import OnOOM
    from trainer.record import Record
    from trainer.report import Failure, Report
    from trainer.training import Training

MESSAGE = "diffsweep"
"""Key of a message among the metrics that Ray carries."""
Message = dict[str, Any]
Send = Callable[[Message], None]


@dataclass(frozen=True)
class Shared:
    """What a trial that trains beside others in one process has to know."""

    is_unwanted: Told
    """After a message: whether it ends there."""
    due: Due
    even_at: int | None
    """Where all of them can begin again."""


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
    on_oom: OnOOM = "halve_microbatch"
    """What it does when memory runs out in a step."""
    remote: str = ""
    """URI of the store that the home mirrors, if it does: each machine then has its own folders."""
    threads: int = 0
    """Of this process; 0: as many as it was started with."""
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

    @classmethod
    def several(cls, config: dict[str, Any]) -> list[Job]:
        """Those that share a process."""
        return [cls.of({"job": one}) for one in json.loads(config["jobs"])]

    def text(self) -> str:
        """Inverse of `of`."""
        return json.dumps(asdict(self))

    @property
    def record(self) -> Record:
        """Its directory."""
        from trainer.record import Record

        return Record(Path(self.directory))


def run_trial(
    job: Job, send: Send, rank: int = 0, world: int = 1, leave: Told = lambda: False
) -> bool:
    """Train one trial in its directory and tell `send` about it; every rank sends equally often.

    Returns whether it went well.

    A trial's own error is told, not raised: trying again would only repeat it. What looks like the
    loss of another worker is raised, for Ray to replace the worker, as is that it left as it was told to.
    """
    from trainer.loop import attempted

    prepare(job)
    return attempted(trial_steps(job, send, rank, world, leave))


def prepare(job: Job) -> None:
    """Make this process one that trains it."""
    if job.private:
        for_owner_alone()
    if job.threads:
        import torch

        torch.set_num_threads(job.threads)


def trial_steps(
    job: Job,
    send: Send,
    rank: int = 0,
    world: int = 1,
    leave: Told = lambda: False,
    shared: Shared | None = None,
) -> Generator[Training, None, bool]:
    """As `run_trial`, whose steps whoever listens attempts."""
    with carried(job.remote, job.key, send, rank, world) as carrier:
        return (yield from _run(job, carrier, rank, world, leave, shared))


def _run(
    job: Job, carrier: Carrier, rank: int, world: int, leave: Told, shared: Shared | None
) -> Generator[Training, None, bool]:
    from trainer.leaving import Left
    from trainer.passes import SmallerPasses

    failure = job.record.failure()
    if failure is not None and failure.attempt == job.attempt:
        carrier.send(_message_of(job.record, failure))
        return False
    try:
        with _claim(job.record, rank) as lease:
            carrier.even()
            _barrier(world)
            carrier.follow()
            yield from _train(job, carrier.send, lease, leave, shared)
            return True
    except Left as left:
        carrier.send({"event": "left", "images": left.images})
        raise
    except SmallerPasses:
        raise
    except Exception as error:
        if world > 1 and is_lost_peer(error):
            raise
        message = failed(job, cause(error), traceback.format_exc())
        if world > 1:  # ends the whole group; the next one finds the failure and tells it
            raise
        carrier.send(message)
        return False


def _train(
    job: Job, send: Send, lease: Lease | None, leave: Told, shared: Shared | None
) -> Generator[Training, None, None]:
    from trainer.report import Report

    record = job.record
    if record.result() is None:
        with closing(_steps(job, leave, shared)) as steps:
            for told in steps:
                if not isinstance(told, Report):
                    yield told
                    continue
                if lease is not None:
                    lease.check()
                send(_reported(record, told))
                if shared is not None and shared.is_unwanted():
                    return
    if (result := record.result()) is not None:
        send({"event": "ended", "result": asdict(result)})
        return
    known = record.reports()
    images = known[-1].images if known else 0
    assert images >= job.until_images, "a trial ends with a result, or where it was to pause"
    send({"event": "paused", "images": images})


def _steps(job: Job, leave: Told, shared: Shared | None) -> Stepwise:
    from trainer.loop import stepwise
    from trainer.trial import TrialSpec

    return stepwise(
        TrialSpec.model_validate_json(job.trial),
        job.record.directory,
        cache=Path(job.cache),
        data_root=Path(job.data_root),
        until_images=job.until_images,
        on_oom=job.on_oom,
        leave=leave,
        due=None if shared is None else shared.due,
        even_at=None if shared is None else shared.even_at,
    )


def _reported(record: Record, report: Report) -> Message:
    message: Message = {"event": "reported", "report": report.to_json()}
    if (png := record.sample(report)) is not None:
        message["png"] = base64.b64encode(png).decode()
    return message


def flat(message: Message) -> dict[str, Any]:
    """A message as Ray metrics: one text. Of each number beside it Tune would keep means as long as it runs."""
    return {MESSAGE: json.dumps(message)}


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


def failed(job: Job, reason: str, full: str = "") -> Message:
    """That a trial broke, kept in its record and as a message."""
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
