"""Why does nothing run? What a trial needs, what is free, and who has the rest, once that has lasted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from service.cluster.notice import draining

if TYPE_CHECKING:
    from service.resources import Resources

PATIENCE_S = 30.0
"""How long trials may wait without a word while none is at work."""
_AGAIN_S = 600.0
"""How long until it is said again."""
_OTHERS = "other jobs of this Ray hold the rest"
_ITSELF = (
    "their own processes hold the rest and do not start: `ray.log` beside the report says more"
)


class Waiting:
    """Tells when trials wait for resources and none of this run is at work."""

    def __init__(
        self,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        is_private: bool = False,
    ) -> None:
        """`is_private`: nobody else is in this Ray."""
        self._note, self._clock = note, clock
        self._who = _ITSELF if is_private else _OTHERS
        self._since: float | None = None
        self._next = PATIENCE_S

    def look(self, waiting: Sequence[Resources], at_work: int) -> None:
        """What each needs that waits, and how many have their resources now; to be called often."""
        if not waiting or at_work:
            self._since, self._next = None, PATIENCE_S
            return
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._next:
            self._next += _AGAIN_S
            self._note(_why(waiting, *_ray_holds(), len(draining()), self._who))


def _ray_holds() -> tuple[Mapping[str, float], Mapping[str, float]]:
    """What there is, and what of it is free."""
    import ray

    return ray.cluster_resources(), ray.available_resources()


def _why(
    waiting: Sequence[Resources],
    total: Mapping[str, float],
    free: Mapping[str, float],
    drained: int,
    who_holds: str,
) -> str:
    """One line; what nodes have that are drained is nobody's any more."""
    need, is_one = waiting[0], len({one.slot for one in waiting}) == 1
    there = ", ".join(
        f"{free.get(kind, 0.0):g} of {total.get(kind, 0.0):g} {kind}" for kind in need.per_worker
    )
    taken = any(free.get(kind, 0.0) < total.get(kind, 0.0) for kind in need.per_worker)
    held = who_holds if taken else "no node has that much together"
    if drained:
        nodes = "1 node is" if drained == 1 else f"{drained} nodes are"
        held = f"{nodes} about to go, and {held if taken else 'no other has that much together'}"
    who = "1 trial waits" if len(waiting) == 1 else f"{len(waiting)} trials wait"
    which = "each" if is_one else "the first"
    return f"{who}, none runs: {which} needs {need.text()}; free: {there}; {held}"
