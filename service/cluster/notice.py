"""Is this process to leave its machine? It got SIGTERM, or Ray is about to drain its node.

Kubernetes, slurm and `ray stop` send SIGTERM and wait some seconds; a cloud that takes a machine back, and whoever runs
`ray drain-node`, name a deadline to Ray. Either is enough for a training to keep a checkpoint and go on elsewhere.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

Trainable = Callable[[dict[str, Any]], None]
_EVERY_S = 1.0
"""How often Ray is asked."""
_GIVEN = threading.Event()
_LISTENERS = 0
"""Trainings of this process that want to know; without any, SIGTERM means what it meant before."""


def listen() -> None:
    """From here on a first SIGTERM is a notice while something trains; for the main thread of a worker."""
    before = signal.getsignal(signal.SIGTERM)
    if getattr(before, "__module__", None) == __name__:
        return

    def hear(number: int, frame: Any) -> None:
        if _LISTENERS and not _GIVEN.is_set():
            _GIVEN.set()
        elif callable(before):
            before(number, frame)
        else:
            raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, hear)


def give() -> None:
    """Tell this process to leave."""
    _GIVEN.set()


@contextlib.contextmanager
def heard() -> Iterator[Callable[[], bool]]:
    """While something trains here: whether it is to leave."""
    global _LISTENERS
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            if is_drained():
                _GIVEN.set()
                return

    thread = threading.Thread(target=watch, name="diffsweep-notice", daemon=True)
    _LISTENERS += 1
    thread.start()
    try:
        yield _GIVEN.is_set
    finally:
        _LISTENERS -= 1
        done.set()


@contextlib.contextmanager
def forwarded(workers: Callable[[], list[Any]]) -> Iterator[None]:
    """For the actor of a trial whose Ray Train workers are other processes: they leave when it is to."""
    done = threading.Event()

    def forward() -> None:
        with heard() as is_given:
            while not done.wait(0.2):
                if is_given():
                    for worker in workers():
                        worker.execute_async(give)
                    return

    thread = threading.Thread(target=forward, name="diffsweep-forward", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5.0)


def is_drained() -> bool:
    """Whether Ray will take this node away."""
    import ray

    return ray.get_runtime_context().get_node_id() in draining()


def draining() -> list[str]:
    """Ids of all nodes that Ray will take away; none where it cannot be asked now."""
    from ray._private.state import state

    with contextlib.suppress(Exception):
        return list(state.get_draining_nodes())
    return []


_UNWANTED: set[str] = set()
"""Keys of trials that share this process, and are to end at their last message."""


def is_unwanted(key: str) -> bool:
    """Whether the driver has said so of a trial."""
    return key in _UNWANTED


class Shared:
    """Part of a Tune trainable that trains several trials: an actor that is told of one of them."""

    def setup(self, *arguments: Any, **options: Any) -> None:
        """Before the rest."""
        _UNWANTED.clear()
        super().setup(*arguments, **options)  # type: ignore[misc]

    def reset_config(self, new_config: dict[str, Any]) -> Any:
        """Before other trials."""
        _UNWANTED.clear()
        return super().reset_config(new_config)  # type: ignore[misc]

    def unwant(self, key: str) -> None:
        """One of them ends at its last message. Heard before the next result is asked for."""
        _UNWANTED.add(key)


class Listens:
    """Part of a Tune trainable whose process listens: what it runs is not in the main thread, its setup is."""

    def setup(self, *arguments: Any, **options: Any) -> None:
        """Before the rest."""
        listen()
        super().setup(*arguments, **options)  # type: ignore[misc]


def listening(trainable: Trainable) -> Trainable:
    """A function that Tune runs in a class of its own, which then listens (`wrap_function` reads the mark)."""
    trainable.__mixins__ = (Listens,)  # type: ignore[attr-defined]
    return trainable


def shared(trainable: Trainable) -> Trainable:
    """The same of one that trains several trials."""
    trainable.__mixins__ = (Shared, Listens)  # type: ignore[attr-defined]
    return trainable
