"""What does Tune take for the loss of an actor? Whatever Ray says of it: its memory monitor's kill is one, too.

Tune by itself knows of two errors of Ray, the actor's and the task's; at any other it ends the run with all its trials.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError

_SEAM = "_actor_task_failed"
_tunes = getattr(RayActorManager, _SEAM, None)
"""What Tune does of itself; None in a Ray that has no such place."""
_LOCK = threading.Lock()
_users = 0


@contextlib.contextmanager
def losses_are_survived() -> Iterator[None]:
    """Such errors reach Tune as the loss of an actor, for the length of the block, which several threads may share."""
    global _users
    with _LOCK:
        _users += 1
        if _tunes is not None:
            setattr(RayActorManager, _SEAM, _failed)
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if _tunes is not None and not _users:
                setattr(RayActorManager, _SEAM, _tunes)


def _failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
    is_known = isinstance(exception, RayActorError | RayTaskError)
    if isinstance(exception, RayError) and not is_known:
        exception = RayActorError(error_msg=str(exception))
    assert _tunes is not None
    _tunes(manager, tracked_actor_task, exception)
