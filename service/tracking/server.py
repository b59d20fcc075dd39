"""Where is the tracking server, does it answer, and how does a person look into it?"""

from __future__ import annotations

import re
import shlex
import ssl
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
    """Refuse to begin when the named tracking server does not answer; raises `ServiceError`.

    MLflow's own client, with the user's name, password, token and certificates in its environment, has the last word
    where a plain request is refused: behind a password, a prefix or a certificate of one's own.
    """
    uri = settings.store_uri
    if not is_server(uri):
        return
    shown = without_password(uri)
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout_s):
            return
    except urllib.error.HTTPError as error:
        _ask_as_user(settings, f"answers HTTP {error.code} to /health")
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError) or "@" in uri:
            _ask_as_user(settings, f"does not answer ({without_password(str(reason))})")
            return
        problem = f"does not answer ({reason})"
    port = uri.rstrip("/").rpartition(":")[2]
    start = f"{program('mlflow')} server" + (f" --port {port}" if port.isdigit() else "")
    raise ServiceError(
        f"the tracking server {shown} {problem}; nothing has been run",
        f"start it with `{start}`, or unset MLFLOW_TRACKING_URI to track in {settings.home}",
    )


def _ask_as_user(settings: Settings, problem: str) -> None:
    """ServiceError unless MLflow's client gets an answer with what the environment gives it."""
    from service.tracking.client import ask

    try:
        ask(settings)
    except Exception as error:
        said = one_line(error)
        if said not in problem:
            problem = f"{problem}, and MLflow's client says {said}"
        raise ServiceError(
            f"the tracking server {without_password(settings.store_uri)} {problem}; nothing has been run",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; for a certificate"
            " of your own MLFLOW_TRACKING_SERVER_CERT_PATH",
        ) from None


def without_password(text: str) -> str:
    """An address, or what is said of it, without the name and password in it."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)


def ui_command(settings: Settings) -> str:
    """What a person types, or opens, to look at the results in MLflow."""
    uri = settings.store_uri
    if is_server(uri):
        return f"open {without_password(uri)}"
    if without_password(uri) != uri:
        return f'{program("mlflow")} ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
    return f"{program('mlflow')} ui --backend-store-uri {shlex.quote(uri)}"


def one_line(error: BaseException) -> str:
    """The first line of an error, with its class."""
    lines = str(error).strip().splitlines()
    if lines[1:] and lines[0].startswith(
        "(raised as a result of"
    ):  # SQLAlchemy's hint to programmers
        del lines[0]
    return without_password(f"{type(error).__name__}: {lines[0] if lines else ''}")[:300]
