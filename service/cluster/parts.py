"""Is a process gone without which a Ray that this process started does nothing more?

A Ray whose control store is gone does not say so: whoever calls it waits for a minute, and is then ended by Ray.
So another one, which knows nothing, answers in its place: calls that wait fail at once, and Ray can be left.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_EVERY_S = 0.1
_STORE = "gcs_server"
_PARTS = (_STORE, "raylet")
"""Among the processes of a node, as Ray calls them."""


class _State:
    """Ray's view of its cluster, whose C++ ends the process where a control store answers with an error."""

    is_lost = False

    @classmethod
    @contextlib.contextmanager
    def guarded(cls) -> Iterator[None]:
        """In the block it is not asked any more once the store is lost: RuntimeError."""
        from ray._private.state import GlobalState

        stock = GlobalState._connect_and_get_accessor

        def connect(state: Any) -> Any:
            if cls.is_lost:
                raise RuntimeError("Ray's control store is gone")
            return stock(state)

        GlobalState._connect_and_get_accessor, cls.is_lost = connect, False
        try:
            yield
        finally:
            GlobalState._connect_and_get_accessor, cls.is_lost = stock, False


class Parts:
    """The processes of Ray's `node`."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._lost: str | None = None
        self._lock = threading.Lock()

    def look(self) -> str | None:
        """Which is gone, or was."""
        with self._lock:
            for part in _PARTS:
                known = self._node.all_processes.get(part, ())
                if any(one.process.poll() is not None for one in known):
                    self._lost = self._lost or part
                    _State.is_lost = _State.is_lost or part == _STORE
                    if part == _STORE:
                        self._answer_in_its_place()
            return self._lost

    def _answer_in_its_place(self) -> None:
        """Tried again by the next look where its port is not free yet, or there is no memory for it."""
        node = self._node
        address, gone = node.gcs_address, node.all_processes.pop(_STORE)
        node._ray_params.gcs_server_port = int(address.rpartition(":")[2])
        node._gcs_address = node._gcs_client = None
        with contextlib.suppress(Exception):
            node.start_gcs_server()
        node._gcs_address = address
        node.all_processes.setdefault(_STORE, gone)


_watched: Parts | None = None


def lost_part() -> str | None:
    """Which process of the Ray that is watched is gone."""
    return None if _watched is None else _watched.look()


@contextlib.contextmanager
def watched(node: Any) -> Iterator[None]:
    """Look on for the length of the block, after which Ray is left."""
    global _watched
    done, _watched = threading.Event(), Parts(node)

    def watch(parts: Parts) -> None:
        while not done.wait(_EVERY_S):
            parts.look()

    thread = threading.Thread(target=watch, args=(_watched,), name="diffsweep-parts", daemon=True)
    thread.start()
    try:
        with _State.guarded():
            yield
    finally:
        done.set()
        thread.join()
        _watched = None
