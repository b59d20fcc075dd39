"""How do a trial's workers get exactly the resources that Tune reserved for that trial?

Stock Ray Train asks for a second placement group: trials deadlock when every first one is taken, and
a group leaks when its controller is killed. Here the worker group borrows the trial's own group, and
the Train controller runs inside the trial's actor: two processes per trial instead of nine. The seams
are Ray's internals, so `supported()` looks for them and `service.cluster.tuning` falls back to the stock
trainer when they are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import ray

from service.causes import killed_by_ray
from service.cluster import notice
from service.cluster.bare import TESTED
from trainer.leaving import Left
from trainer.passes import SmallerPasses

HEALTHY = True
"""What a worker's loop returns when its process is fit for another trial."""


@cache
def supported() -> bool:
    """Whether this Ray has the seams that the gang trainer needs."""
    if not ray.__version__.startswith(TESTED):
        return False
    try:
        from ray.train.v2._internal.execution.controller import TrainController
        from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy
        from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
        from ray.train.v2._internal.execution.worker_group import state, worker_group
        from ray.train.v2._internal.execution.worker_group.placement_group_handle import (
            DefaultPlacementGroupHandle,
        )
    except ImportError:
        return False
    return (
        all(hasattr(worker_group.WorkerGroup, name) for name in _SEAMS)
        and hasattr(worker_group, "SynchronizationActor")
        and hasattr(state, "_shutdown_sync_actor")
        and hasattr(TrainController, "worker_group_cls")
        and inspect.iscoroutinefunction(TrainController.run)
        and hasattr(DefaultPlacementGroupHandle, "shutdown")
        and hasattr(DefaultFailurePolicy, "make_decision")
        and all(hasattr(FixedScalingPolicy, name) for name in _REQUESTS)
    )


_SEAMS = ("_create_placement_group", "_create_workers", "_assign_worker_ranks", "_start_impl")
_REQUESTS = ("after_controller_start", "before_controller_shutdown", "_maybe_send_resource_request")


def bundles(workers: int, per_worker: dict[str, float]) -> list[dict[str, float]]:
    """The trial's placement group: an empty head, which costs nothing, then one bundle per worker."""
    return [{"CPU": 0.0}, *(dict(per_worker) for _ in range(workers))]


class BarrierOfOne:
    """Stands in for Train's barrier actor, a process of its own, when there is a single worker."""

    class broadcast_from_rank_zero:  # noqa: N801
        """What `train.report` calls at the barrier."""

        @staticmethod
        def remote(data: Any, **_: Any) -> Any:
            """Hand the caller's own data back."""
            return ray.put(data)

    @classmethod
    def options(cls, **_: Any) -> type[BarrierOfOne]:
        """Actors are placed; this is not one."""
        return cls

    @classmethod
    def remote(cls, **_: Any) -> BarrierOfOne:
        """Actors are started; this is not one."""
        return cls()


@cache
def trainer_class() -> type[Any]:
    """A TorchTrainer whose workers live in the current placement group (call it inside the trial)."""
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import (
        PlacementGroupCleanerCallback,
    )
    from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy

    class Granted(FixedScalingPolicy):  # type: ignore[misc]
        """Asks the autoscaler for nothing: Tune's placement group has asked already."""

        def after_controller_start(self, train_run_context: Any) -> None:
            """No request."""

        async def before_controller_shutdown(self) -> None:
            """No request to take back."""

        def before_controller_abort(self) -> None:
            """No request to take back."""

        def _maybe_send_resource_request(self) -> None:
            """No request to renew."""

    class GangTrainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            unneeded = (PlacementGroupCleanerCallback, DatasetsCallback)
            given = super()._create_default_callbacks()
            return [callback for callback in given if not isinstance(callback, unneeded)]

        def _initialize_and_run_controller(self, **parts: Any) -> Any:
            parts["scaling_policy"] = Granted(self.scaling_config)
            parts["failure_policy"] = _failure_policy(self.run_config.failure_config)
            controller = _controller_class()(**parts)

            def workers() -> list[Any]:
                group = controller.get_worker_group()
                return [] if group is None else list(group.get_workers())

            try:
                with notice.forwarded(workers):
                    asyncio.run(controller.run())
            except SystemExit:  # Tune stopped the trial at a report; its workers would train on
                if (group := controller.get_worker_group()) is not None:
                    _kill(group.get_workers())
                raise
            return controller.get_result()

    return GangTrainer


def _failure_policy(config: Any) -> Any:
    """Counts what was lost; neither a trial that was told to leave nor one that goes on in smaller passes."""
    from ray.train.v2._internal.execution.failure_handling import (
        DefaultFailurePolicy,
        FailureDecision,
    )

    class Fair(DefaultFailurePolicy):  # type: ignore[misc]
        def make_decision(self, training_failed_error: Any) -> Any:
            errors = getattr(training_failed_error, "worker_failures", {}).values()
            if any(isinstance(error, Left) for error in errors):
                return FailureDecision.RAISE  # its placement group lies where it is to leave
            if any(isinstance(error, SmallerPasses) for error in errors):
                return FailureDecision.RETRY
            # Tune waits for room, and says so; after a kill for memory the next would come within a second
            if has_no_room(training_failed_error) or killed_by_ray(str(training_failed_error)):
                return FailureDecision.RAISE
            return super().make_decision(training_failed_error)

    return Fair(config)


def has_no_room(error: Any) -> bool:
    """Whether workers could not be started again in their placement group: part of it was on a node that is gone."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError)


@cache
def _controller_class() -> type[Any]:
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.worker_group import state, worker_group
    from ray.train.v2._internal.execution.worker_group.placement_group_handle import (
        DefaultPlacementGroupHandle,
    )

    stock_barrier, stock_end = worker_group.SynchronizationActor, state._shutdown_sync_actor
    state._shutdown_sync_actor = lambda b: None if isinstance(b, BarrierOfOne) else stock_end(b)

    class Borrowed(DefaultPlacementGroupHandle):  # type: ignore[misc]
        def shutdown(self) -> None:
            """Tune made the group and Tune frees it."""

    kept: dict[Any, list[Any]] = {}

    class GangWorkerGroup(worker_group.WorkerGroup):  # type: ignore[misc]
        """Borrows the placement group, and leaves its workers to the trial that comes next in it.

        A process that has imported torch and trained to the end is as good as a new one, which costs
        five CPU-seconds. After any error the next trial gets new processes.
        """

        def _start_impl(self, builder: Any) -> None:
            alone = self._worker_group_context.num_workers == 1
            worker_group.SynchronizationActor = BarrierOfOne if alone else stock_barrier
            super()._start_impl(builder)

        def _create_placement_group(self, scaling: Any, context: Any) -> Any:
            group = ray.util.get_current_placement_group()
            assert group is not None, "a gang trainer runs inside a trial"
            assert group.bundle_count == context.num_workers
            return Borrowed(group)

        def _create_workers(self, num_workers: int, group: Any, *args: Any, **kw: Any) -> Any:
            waiting = kept.pop(group.id, [])
            try:
                ray.get([worker.actor.get_metadata.remote() for worker in waiting])
            except ray.exceptions.RayActorError:
                _kill(waiting)
                waiting = []
            if len(waiting) != num_workers:
                made = super()._create_workers(num_workers, group, *args, **kw)
                for worker in made:
                    worker.execute_async(notice.listen)
                return made
            return self._assign_worker_ranks(waiting)

        def shutdown(self) -> None:
            status = self.get_latest_poll_status()
            ends = [] if status is None else list(status.worker_statuses.values())
            if ends and all(end.return_value is HEALTHY and not end.running for end in ends):
                workers, state = self.get_workers(), self.get_worker_group_state()
                ray.get([worker.execute_async(_leave_process_group) for worker in workers])
                kept[state.placement_group_handle.placement_group.id] = workers
                self._worker_group_state = replace(state, workers=[])
            super().shutdown()

    class GangController(TrainController):  # type: ignore[misc]
        worker_group_cls = GangWorkerGroup

    return GangController


def _leave_process_group() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _kill(workers: list[Any]) -> None:
    for worker in workers:
        ray.kill(worker.actor)


@contextlib.contextmanager
def reaping(every_s: float = 2.0) -> Iterator[None]:
    """For the stock trainer: remove placement groups of this job whose controller has died.

    Ray frees a group only when its creator *and* the job are gone, so a trial that is killed would
    keep its GPUs until the sweep ends.
    """
    done = threading.Event()

    def reap() -> None:
        while not done.wait(every_s):
            for group in _orphans(ray.get_runtime_context().get_job_id()):
                with contextlib.suppress(Exception):  # gone already, or the cluster is going down
                    ray.util.remove_placement_group(group)

    thread = threading.Thread(target=reap, name="diffsweep-reaper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(every_s + 5.0)


def _orphans(job_id: str) -> list[Any]:
    from ray._private.state import state
    from ray.core.generated import gcs_pb2
    from ray.util.placement_group import PlacementGroup

    accessor = state._connect_and_get_accessor()

    def is_dead(actor: bytes) -> bool:
        raw = accessor.get_actor_info(ray.ActorID(actor))
        dead = gcs_pb2.ActorTableData.DEAD
        return raw is None or gcs_pb2.ActorTableData.FromString(raw).state == dead

    orphans = []
    for raw in accessor.get_placement_group_table():
        group = gcs_pb2.PlacementGroupTableData.FromString(raw)
        ours = group.creator_job_id.hex() == job_id and not group.is_detached
        creator = group.creator_actor_id  # all 0xff: made by the driver, that is by Tune
        alive = group.state != gcs_pb2.PlacementGroupTableData.REMOVED
        if ours and alive and creator.strip(b"\xff") and is_dead(creator):
            orphans.append(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
    return orphans
