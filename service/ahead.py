"""What is begun before it is needed? Workers' imports with the command, the report's while trials train."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.progress import TrialFinished, TrialReported
from service.settings import inside_ray_job
from service.tracking.notes import REPORT
from trainer.errors import UserError
from trainer.yaml.source import read

if TYPE_CHECKING:
    from pathlib import Path

    from service.progress import Event
    from service.settings import Settings

MODULES = ("service.results", "service.exporting", "dashboards.page", "service.tracking.verdict")
"""Whatever they bring: pandas, plotly, templates."""


def is_new(file: Path, settings: Settings) -> bool:
    """Whether a run of this YAML is likely to train here, as there is no report yet: known before it is checked."""
    if settings.ray_address is not None or inside_ray_job():
        return False
    try:
        name = read(file).data["name"]
        return not (settings.experiment(name) / REPORT).exists()
    except (UserError, OSError, KeyError, TypeError, ValueError):  # told later, with its line
        return False


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
    from dashboards.html import packed_plotly

    packed_plotly()
