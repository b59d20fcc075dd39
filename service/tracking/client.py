"""How is MLflow's client made, so that nobody waits for minutes? And what will MLflow never take?"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from service.settings import sqlite
from service.tracking.relocation import relocate
from trainer.files import FileLock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from service.settings import Settings

_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}
_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_RUNS, _POINTS = 10, 25_000
"""Runs in a question, since a busy server has to answer before the client gives up; most points in an answer."""
History = tuple[str, int, float]
"""Run, step, value."""
_DATABASE = "sqlalche.me"
"""What messages of MLflow's database end with; to MLflow they are bad requests, also where it was restarted."""
_OF_THE_DATA = ("DataError", "IntegrityError", "ProgrammingError", "NotSupportedError")
"""Those of them that would come again."""


def ask(settings: Settings) -> None:
    """Raise unless a server answers to who the environment says this is, with MLflow's own variables for that."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    _be_brief()
    answer = http_request(get_default_host_creds(settings.store_uri), "/health", "GET")
    if answer.status_code == 404:  # behind a prefix there is no /health
        client(settings)
    elif answer.status_code != 200:
        raise ConnectionError(f"HTTP {answer.status_code}: {answer.text[:80].strip()}")


def _be_brief() -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the default blocks 246 s
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run


def client(settings: Settings) -> Any:
    """MLflow's, once it has had an answer; it raises what MLflow raises."""
    _be_brief()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(
        logging.CRITICAL
    )  # a traceback of what it raises
    settings.home.mkdir(parents=True, exist_ok=True)
    with only_creator(settings):
        if not settings.tracking_uri and not settings.database.exists():
            _create(settings.database)
        made = _answering(settings.store_uri)
        if not settings.tracking_uri:
            relocate(settings.database, settings.artifacts)
            _repositories().clear()  # by run, not by home
    return made


def _answering(uri: str) -> Any:
    """Where there is no database, this makes one, table after table."""
    import mlflow

    made = mlflow.MlflowClient(uri, registry_uri=uri)
    made.search_experiments(max_results=1)
    return made


def _create(database: Path) -> None:
    """With all of MLflow's tables or not at all: what was cut short between two of them is refused for ever after."""
    partial = database.with_name(f".{database.name}.partial")
    for leftover in database.parent.glob(f"{partial.name}*"):
        leftover.unlink()
    _answering(sqlite(partial))
    partial.rename(database)


def histories(uri: str, runs: Sequence[str], metric: str) -> list[History] | None:
    """Run, step and value of a metric's points, of many runs at a time, as MLflow's own page asks for them.

    None where a server has no such address, as behind some gateways, or no room for all points of a run in an answer.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    found: list[History] = []
    waiting = [list(runs[first : first + _RUNS]) for first in range(0, len(runs), _RUNS)]
    while waiting:
        some = waiting.pop()
        asked = {"run_id": some, "metric_key": metric, "max_results": _POINTS}
        answer = http_request(get_default_host_creds(uri), _BULK, "GET", params=asked)
        if answer.status_code in (404, 405):
            return None
        points = verify_rest_response(answer, _BULK).json()["metrics"]
        if len(points) < _POINTS:
            found += [(one["run_id"], int(one["step"]), float(one["value"])) for one in points]
        elif len(some) > 1:  # it was cut: half of them at a time
            waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
        else:
            return None
    return found


def has_ended(run_id: str) -> None:
    """MLflow keeps queues and a pool of threads for each of the last thousand runs that were given an artifact."""
    _repositories().pop(run_id, None)


def _repositories() -> dict[str, Any]:
    from mlflow.tracking._tracking_service import utils

    return getattr(utils, "_artifact_repos_cache", {})


def only_creator(settings: Settings) -> contextlib.AbstractContextManager[Any]:
    """Two processes that create the tables of one sqlite file together break it."""
    if settings.tracking_uri:
        return contextlib.nullcontext()
    return FileLock(settings.home / ".mlflow.lock", wait_s=120)


def refused(error: Exception) -> bool:
    """Whether MLflow understood and will never accept, as opposed to being out of reach, or its database."""
    if getattr(error, "error_code", None) not in _REFUSALS:
        return False
    said = str(error)
    return _DATABASE not in said or any(kind in said for kind in _OF_THE_DATA)
