"""Which interpreter does a cluster's head have? Its environment need not be on the PATH that jobs get."""

from __future__ import annotations

import contextlib
import time
from typing import Any

_INTRODUCED_S = 15.0
"""How long a dashboard may take to know its own head: it was started just now."""


def interpreter(client: Any) -> str:
    """Asked by Ray's job client: what starts Python workers there; `python` where the dashboard does not say."""
    with contextlib.suppress(Exception):  # no part of Ray's documented interface
        deadline = time.monotonic() + _INTRODUCED_S
        while time.monotonic() < deadline:
            nodes = client._do_request("GET", "/nodes?view=summary").json()
            if (python := head_python(nodes["data"]["summary"])) is not None:
                return python
            time.sleep(0.5)
    return "python"


def head_python(nodes: list[dict[str, Any]]) -> str | None:
    """What starts Python workers on the head, by what Ray's dashboard tells of all nodes; None before it knows."""
    flag = "--python_worker_command="
    for node in nodes:
        if (node.get("raylet") or {}).get("isHeadNode") and node.get("cmdline"):
            for word in node["cmdline"]:
                if word.startswith(flag) and (command := word.removeprefix(flag).split()):
                    return str(command[0])
            return "python"
    return None
