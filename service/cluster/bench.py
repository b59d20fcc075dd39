"""How fast is a cluster's own hardware? Trials are timed where their workers would train, beside as many others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError
from service.planning.calibration import Bench
from service.planning.speed import Speed
from service.resources import Capacity

if TYPE_CHECKING:
    from service.resources import Resources
    from trainer.trial import TrialSpec

PLACED_WITHIN_S = 30.0
"""How long a worker may wait for a free slot."""
_COMPANY_WITHIN_S = 60.0
"""How long others may take to be at work beside it; those that are not by then are done without."""


class ClusterBench(Bench):
    """The cluster that this process is connected to, or what was timed on it before."""

    @property
    def place(self) -> str:
        """Where that is, for a person."""
        return "the cluster"

    @property
    def place_id(self) -> str:
        """That, in names of files."""
        return "cluster"

    @property
    def device(self) -> str:
        """What a worker trains on there."""
        return "cuda" if self.resources.gpus else "cpu"

    @property
    def _there(self) -> str:
        return self.place_id

    def _measured(self, trial: TrialSpec) -> Speed:
        import ray

        worker, room = ray.remote(_Worker), occupied(self.resources)
        given = (
            trial.model_dump_json(),
            str(self.data_root),
            str(self.cache),
            self.device,
            self.threads,
            self.together(trial),
        )
        with contextlib.ExitStack() as held:
            timed = held.enter_context(ended(worker.options(**room).remote(*given)))
            node = _placed(timed, self.resources)
            place = room | {"scheduling_strategy": _at(node)}
            beside = worker.options(**place)
            for one in _beside(beside, given, self.company - 1, held):
                with contextlib.suppress(Exception):  # it is company only
                    ray.get(one)
            return Speed(**ray.get(timed.measure.remote()))


def room(shapes: Sequence[Resources], most: int | None) -> Capacity:
    """What the cluster has for trials side by side. Of one shape they are counted by node: a worker is on one."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if len(shapes) == 1:
        workers = sum(_fitting(shapes[0], node) for node in nodes)
        fitting = max(1, workers // shapes[0].workers)
        return Capacity(most=min(most or fitting, fitting))
    cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    return Capacity(cpus, gpus, most)


def _fitting(resources: Resources, node: dict[str, float]) -> int:
    one = resources.model_copy(update={"workers": 1})
    return one.at_once(node.get("CPU", 0.0), node.get("GPU", 0.0))


def occupied(resources: Resources) -> dict[str, Any]:
    """Options of an actor that holds what one worker of a trial holds."""
    from service.cluster.variables import worker_environment

    return {
        "num_cpus": resources.cpus,
        "num_gpus": resources.gpus,
        "max_restarts": 0,
        "runtime_env": {"env_vars": _threads_of(worker_environment([resources]))},
    }


def _threads_of(environment: dict[str, str]) -> dict[str, str]:
    """Those that a job may have set already are not given again: Ray refuses them."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
    return {name: environment[name] for name in names}


@contextlib.contextmanager
def ended(actor: Any) -> Iterator[Any]:
    """An actor that is gone when the block ends."""
    import ray

    try:
        yield actor
    finally:
        ray.kill(actor)


def _placed(actor: Any, need: Resources) -> str:
    """The node that it got; ServiceError where nothing is free soon."""
    import ray

    said = actor.node.remote()
    ready, _ = ray.wait([said], timeout=PLACED_WITHIN_S)
    if ready:
        return str(ray.get(said))
    wanted = _words(need.per_worker)
    there, free = (_words(of) for of in (ray.cluster_resources(), ray.available_resources()))
    raise ServiceError(
        f"no worker got {wanted} within {PLACED_WITHIN_S:.0f} s: of {there} on this cluster, {free} are free",
        "wait until something ends there, lower resources in the YAML, or plan without --address",
    )


def _words(resources: dict[str, float]) -> str:
    """`4 CPUs and 1 GPU`."""
    parts = []
    for name in ("CPU", "GPU"):
        amount = resources.get(name, 0.0)
        parts += (
            [f"{amount:g} {name}{'' if amount == 1 else 's'}"] if amount or name == "CPU" else []
        )
    return " and ".join(parts)


def _at(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _beside(worker: Any, given: Sequence[Any], count: int, held: contextlib.ExitStack) -> list[Any]:
    """Others that have begun to work, as far as there is room."""
    import ray

    others = [held.enter_context(ended(worker.remote(*given))) for _ in range(count)]
    begun = [one.begin.remote() for one in others]
    return list(ray.wait(begun, num_returns=count, timeout=_COMPANY_WITHIN_S)[0]) if begun else []


class _Worker:
    """An actor that holds what a worker of the trial holds."""

    def __init__(
        self, trial: str, data_root: str, cache: str, device: str, threads: int, together: int
    ) -> None:
        self._given = trial, Path(data_root), Path(cache), device, threads
        self._together = together

    def node(self) -> str:
        """Where it is."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def measure(self) -> dict[str, Any]:
        """A `Speed`, as data."""
        from dataclasses import asdict

        from service.planning.measuring import measure

        spec, root, cache, device, threads = self._read()
        source = spec.data.load(root, cache)
        return asdict(measure(spec, source, cache, device, threads, self._together))

    def begin(self) -> None:
        """Train in the background until it is killed; returns after the first step."""
        import threading

        import torch

        from service.planning.measuring import stepping

        spec, root, cache, device, threads = self._read()
        torch.set_num_threads(threads)
        source = spec.data.load(root, cache).to(torch.device(device))
        step = stepping(spec, source, self._together)

        def train() -> None:
            while True:
                step()

        threading.Thread(target=train, daemon=True).start()

    def _read(self) -> tuple[TrialSpec, Path, Path, str, int]:
        import torch

        from trainer.trial import TrialSpec

        trial, root, cache, device, threads = self._given
        device = device if torch.cuda.is_available() else "cpu"
        return TrialSpec.model_validate_json(trial), root, cache, device, threads
