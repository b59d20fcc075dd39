"""What does Ray Tune start for a trial? The trial itself (`inproc`), several (`ensemble`), or a Ray Train
run of its workers (`train`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from service.causes import killed_by_ray, lost
from service.cluster import gang
from service.cluster.notice import heard, is_unwanted, listening, shared
from service.cluster.variables import TRAIN_ENVIRONMENT
from service.ensemble import run_together
from service.resources import Resources
from service.worker import Job, Message, failed, flat, run_trial
from trainer.leaving import Left
from trainer.machine import oom_kills

RETRIES = 2
"""How often a lost worker, actor or node is replaced."""


_BUNDLES: dict[str, Callable[[Resources], list[dict[str, float]]]] = {
    "gang": lambda need: gang.bundles(need.workers, need.per_worker),
    "stock": lambda _: [{"CPU": 0.01}],  # its workers get a group of their own
    "in place": lambda need: [need.per_worker],
}


def placed(how: str, config: dict[str, Any]) -> Any:
    """What Tune reserves for one trial, and keeps its actor for: others with the same bundles may have it."""
    from ray import tune

    return tune.PlacementGroupFactory(_BUNDLES[how](resources(config)), strategy="PACK")


def resources(config: dict[str, Any]) -> Resources:
    """What one of Tune's trials occupies."""
    return Resources.model_validate_json(config["resources"])


@listening
def trial_in_gang(config: dict[str, Any]) -> None:
    """Tune trainable: one TorchTrainer whose workers live in the trial's placement group."""
    from ray import tune
    from ray.train import UserCallback

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


@listening
def trial_in_place(config: dict[str, Any]) -> None:
    """Tune trainable: train inside the Tune actor."""
    from ray import tune

    try:
        with heard() as leave:
            run_trial(Job.of(config), lambda message: tune.report(flat(message)), leave=leave)
    except Left as left:
        raise _moved(left) from None


@shared
def trial_in_ensemble(config: dict[str, Any]) -> None:
    """Tune trainable: train several trials inside the Tune actor, as one program."""
    from ray import tune

    def send(key: str, message: Message) -> None:
        tune.report(flat(message | {"key": key}))

    try:
        with heard() as leave:
            run_together(Job.several(config), send, leave, is_unwanted)
    except Left as left:
        raise _moved(left) from None


def _fit(
    config: dict[str, Any],
    trainer: type[Any],
    relay: Any,
    report: Callable[[dict[str, Any]], None],
) -> None:
    from ray import train
    from ray.train.torch import TorchConfig

    os.environ.update(TRAIN_ENVIRONMENT)
    job, need = Job.of(config), resources(config)
    fitted = trainer(
        _worker_loop,
        train_loop_config={"job": job.text()},
        torch_config=TorchConfig(backend="nccl" if need.gpus else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=need.workers,
            use_gpu=need.gpus > 0,
            resources_per_worker=need.per_worker,
        ),
        run_config=train.RunConfig(
            name=f"{job.key}-{time.time_ns()}",  # never Train's own restore: the trial's directory knows
            storage_path=str(job.record.scratch),
            failure_config=train.FailureConfig(max_failures=RETRIES),
            callbacks=[relay],
        ),
    )
    killed = oom_kills()
    try:
        fitted.fit()
    except train.TrainingFailedError as error:
        for failure in getattr(error, "worker_failures", {}).values():
            if isinstance(failure, Left):
                raise _moved(failure) from None
        if gang.has_no_room(error):
            raise _moved(error) from None
        if killed_by_ray(str(error)):
            raise _lost(error) from None
        why = lost(str(error), oom_kills() - killed)
        reason = f"its workers died {RETRIES + 1} times: {why}"
        report(flat(failed(job, reason, str(error))))


def _moved(left: Exception) -> Exception:
    """What Tune takes for the loss of a node that was announced: it places the trial anew, and counts no failure."""
    from ray.exceptions import RayActorError

    return RayActorError(error_msg=str(left), preempted=True)


def _lost(error: Exception) -> Exception:
    """What Tune takes for the loss of the trial's actor: it starts another one, `RETRIES` times."""
    from ray.exceptions import RayActorError

    return RayActorError(error_msg=str(error))


def _worker_loop(config: dict[str, Any]) -> bool:
    """Runs in each Ray Train worker, with torch.distributed set up by Ray Train.

    True says that the process may train another trial: an error may leave a GPU unusable.
    """
    from ray import train

    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()

    def send(message: Message) -> None:
        train.report(flat(message) if rank == 0 else {})

    with heard() as leave:
        return run_trial(Job.of(config), send, rank, world, leave)
