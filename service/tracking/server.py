"""Where is the tracking server, does it answer, and how does a person look into it?"""

from __future__ import annotations

import shlex
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from service.command_line import program
from service.errors import ServiceError

if TYPE_CHECKING:
    from service.settings import Settings


def is_server(uri: str) -> bool:
    """Whether the store is reached over HTTP."""
    return uri.startswith(("http://", "https://"))


def check_reachable(settings: Settings, timeout_s: float = 3.0) -> None:
    """Refuse to begin when the named tracking server does not answer; raises `ServiceError`."""
    uri = settings.store_uri
    if not is_server(uri):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout_s):
            return
    except urllib.error.HTTPError as error:
        problem = f"answers HTTP {error.code} to /health"
    except (OSError, ValueError) as error:
        problem = f"does not answer ({getattr(error, 'reason', error)})"
    port = uri.rstrip("/").rpartition(":")[2]
    start = f"{program('mlflow')} server" + (f" --port {port}" if port.isdigit() else "")
    raise ServiceError(
        f"the tracking server {uri} {problem}; nothing has been run",
        f"start it with `{start}`, or unset MLFLOW_TRACKING_URI to track in {settings.home}",
    )


def ui_command(settings: Settings) -> str:
    """What a person types, or opens, to look at the results in MLflow."""
    uri = settings.store_uri
    if is_server(uri):
        return f"open {uri}"
    return f"{program('mlflow')} ui --backend-store-uri {shlex.quote(uri)}"


def one_line(error: BaseException) -> str:
    """The first line of an error, with its class."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
