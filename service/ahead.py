"""What does the end of a run import? It is imported while trials train, so that the report follows the last result."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.progress import TrialFinished, TrialReported

if TYPE_CHECKING:
    from service.progress import Event

MODULES = ("service.results", "service.exporting", "dashboards.page", "service.tracking.verdict")
"""Whatever they bring: pandas, plotly, templates."""


def read_ahead(show: Callable[[Event], None]) -> Callable[[Event], None]:
    """`show`, which from the first report on imports beside what it does."""
    begun = threading.Event()

    def heard(event: Event) -> None:
        told = isinstance(event, TrialReported | TrialFinished)
        if told and not getattr(event, "reused", False) and not begun.is_set():
            begun.set()
            threading.Thread(target=_read, name="diffsweep-ahead", daemon=True).start()
        show(event)

    return heard


def _read() -> None:
    for name in MODULES:
        importlib.import_module(name)
