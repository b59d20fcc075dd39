"""Is a process gone without which a Ray that this process started does nothing more? Looked for once a second.

A Ray whose control store is gone does not say so: whoever calls it waits for a minute, and is then ended by Ray.
So another one, which knows nothing, answers in its place: calls that wait fail at once, and Ray can be left.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_EVERY_S = 0.5
_STORE = "gcs_server"
_PARTS = (_STORE, "raylet")
"""Among the processes of a node, as Ray calls them."""
_LOST: list[str] = []
"""Of the Ray that is watched."""


def lost_part() -> str | None:
    """Which process is gone."""
    return _LOST[0] if _LOST else None


@contextlib.contextmanager
def watched(node: Any) -> Iterator[None]:
    """Look on at the processes of Ray's `node` for the length of the block, after which Ray is left."""
    done = threading.Event()
    _LOST.clear()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            for part in _PARTS:
                if any(one.process.poll() is not None for one in node.all_processes.get(part, ())):
                    _LOST.append(part)
                    if part == _STORE:
                        _answer_in_its_place(node)

    thread = threading.Thread(target=watch, name="diffsweep-parts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _answer_in_its_place(node: Any) -> None:
    """Tried again by the next look where its port is not free yet."""
    address = node.gcs_address
    node.all_processes.pop(_STORE)
    node._ray_params.gcs_server_port = int(address.rpartition(":")[2])
    node._gcs_address = node._gcs_client = None
    try:
        node.start_gcs_server()
    finally:
        node._gcs_address = address
