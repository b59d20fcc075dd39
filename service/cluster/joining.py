"""How does this process enter a Ray, whichever it is, and leave it again?"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from service import signals

_has_left = False


def init(**given: Any) -> None:
    """Connect. SIGTERM meanwhile is an interruption here, where Ray would leave the process.

    What Tune left of the Ray before in reference cycles is collected first: this one knows nothing of it.
    """
    import gc

    global _has_left
    if _has_left:
        gc.collect()
        _has_left = False
    signals.ignore_in_children()
    try:
        _start(log_to_driver=False, logging_level=logging.ERROR, **given)
    except SystemExit:
        signals.listen_again()
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signals.listen_again()


def _start(**given: Any) -> None:
    """Once more where a control store did not start.

    The system may give two Rays one port (both ask with SO_REUSEPORT), and this one then meets the other's token.
    """
    import ray

    try:
        ray.init(**given)
    except RuntimeError as error:
        if "Failed to start GCS" not in str(error):
            raise
        ray.shutdown()
        ray.init(**given)


def disconnect() -> None:
    """Leave Ray. Objects of Ray that Tune leaves in reference cycles are not collected while it ends.

    The garbage collector runs in whatever thread allocates. If the thread that delivers to MLflow freed such an
    object in the middle of Ray's shutdown, Ray would end the process. Where this is no command, whose process ends
    soon, they are collected before: whoever owns the process may collect, or start a Ray, at any time.
    """
    import gc

    import ray

    global _has_left
    _has_left = True
    if threading.current_thread() is not threading.main_thread():
        gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as pool:
            left = pool.submit(ray.shutdown)
            while wait([left], timeout=0.01).not_done:  # Ray gives signals back to the system
                signals.listen_again()
        left.result()
    finally:
        signals.listen_again()
        if was_enabled:
            gc.enable()


def use_token() -> None:
    """Ray's clients send the token they find only when told to."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or os.path.exists(os.path.expanduser("~/.ray/auth_token")):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and warnings off, for the length of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a notebook
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
