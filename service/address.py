"""Which cluster takes the jobs? What was typed wins over the environment, with or without `http://` and port."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from service.errors import ServiceError

if TYPE_CHECKING:
    from service.settings import Settings

PORT = 8265
"""Of a dashboard, where none is said."""
DEFAULT_ADDRESS = f"http://127.0.0.1:{PORT}"


def address_of(settings: Settings, given: str | None = None) -> str:
    """The HTTP address of a cluster's jobs: as given, from RAY_API_SERVER_ADDRESS or RAY_ADDRESS, or here.

    RAY_ADDRESS is where drivers connect; the dashboard is taken to be on the same host.
    """
    if named := given or os.environ.get("RAY_API_SERVER_ADDRESS"):
        return _http(named.strip())
    drivers = settings.ray_address
    if not drivers or drivers in ("auto", "local"):
        return DEFAULT_ADDRESS
    if drivers.startswith(("http://", "https://")):
        return _http(drivers)
    return f"http://{_split(drivers.rpartition('://')[2])[0]}:{PORT}"


def _http(named: str) -> str:
    scheme, _, rest = named.rstrip("/").rpartition("://")
    host, port = _split(rest)
    if scheme == "ray":
        raise ServiceError(
            f"{named} is where drivers connect, not where jobs are submitted",
            f"give the address of the cluster's dashboard, such as http://{host}:{PORT}",
        )
    if scheme and not _is_rays(scheme):
        raise ServiceError(
            f"{named} is no address of a cluster: {scheme} is none of http, https",
            f"give the address of the cluster's dashboard, such as http://{host}:{PORT}",
        )
    return f"{scheme}://{rest}" if scheme else f"http://{host}:{port or PORT}"


def _is_rays(scheme: str) -> bool:
    """Whether Ray submits to it: by HTTP, or by a module of this name that a vendor of clusters installs."""
    return scheme.lower() in ("http", "https") or (
        scheme.isidentifier() and importlib.util.find_spec(scheme) is not None
    )


def _split(place: str) -> tuple[str, str]:
    """Host and port of `host:port`, `host`, `:port` or `[::1]:port`."""
    host, colon, port = place.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return host or "127.0.0.1", port
    return place, ""
