"""Orchestration: experiments in YAML become trials on Ray, curves in MLflow, and an outcome.

`from service import Client, Experiment` is the Python way in. Names are loaded when first used, so
that `import service` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.job import Job
    from service.sdk import Client
    from trainer.trial import TrialSpec

__all__ = ["Client", "Experiment", "Job", "TrialSpec"]
_HOMES = {
    "Client": "service.sdk",
    "Experiment": "service.experiment",
    "Job": "service.job",
    "TrialSpec": "trainer.trial",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
