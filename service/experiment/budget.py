"""How much may an experiment cost at most? One number, in one unit."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

import contextlib
import re
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from service.resources import Resources
from trainer.bounds import MANY, Count
from trainer.errors import InputError, Problem
from trainer.spec import Spec

_Hours = Annotated[float, Field(ge=1e-6, le=MANY)]
_SHORT = re.compile(r"(?P<number>\d{1,12}(?:\.\d{1,6})?)\s*(?P<unit>gpuh|cpuh|trials?)", re.ASCII)
_KEYS = {"gpuh": "gpu_hours", "cpuh": "cpu_hours", "trial": "trials", "trials": "trials"}
_UNITS = {"gpu_hours": "GPU-hours", "cpu_hours": "CPU-hours", "trials": "trials"}


class Budget(Spec):
    """What is started at most: once the records say that it is spent, what runs ends and nothing new begins.

    Everything in the experiment's own trials counts, whichever run trained them. Give exactly one of the keys.
    """

    gpu_hours: _Hours | None = None
    """GPU-hours of training and evaluation, over all workers; needs `resources.gpus`."""
    cpu_hours: _Hours | None = None
    """CPU-hours of training and evaluation, over all workers."""
    trials: Count | None = None
    """Trials that are begun."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        given = [key for key in _UNITS if isinstance(data, dict) and data.get(key) is not None]
        strangers = isinstance(data, dict) and set(data) - set(_UNITS)
        if isinstance(data, dict) and len(given) != 1 and not strangers:
            have = f"not {' and '.join(given)}" if given else "it has none"
            raise ValueError(f"takes exactly one of gpu_hours, cpu_hours and trials, {have}")
        return data

    @classmethod
    def of(cls, text: str) -> "Budget":
        """`40gpuh`, `1.5 cpuh`, `12 trials`, as a person types it. InputError with the way out."""
        found = _SHORT.fullmatch(text.strip().lower())
        if found is not None:
            with contextlib.suppress(ValidationError):
                return cls.model_validate({_KEYS[found["unit"]]: float(found["number"])})
        message = f"`{text}` is no budget: write 40gpuh or 200cpuh, at most {MANY:,} hours"
        raise InputError([Problem("--budget", None, "", message)])

    @property
    def limit(self) -> float:
        """The number."""
        values = (self.gpu_hours, self.cpu_hours, self.trials)
        return next(float(value) for value in values if value is not None)

    def devices(self, resources: Resources) -> float:
        """How many devices of its unit a trial occupies."""
        return resources.devices("CPU" if self.gpu_hours is None else "GPU")

    def short(self) -> str:
        """Inverse of `of`."""
        unit = next(short for short, key in _KEYS.items() if getattr(self, key) is not None)
        return f"{self.limit:.6f}{unit}" if unit.endswith("h") else f"{self.limit:.0f}{unit}"

    def label(self) -> str:
        """`12 trials`, `1.5 GPU-hours`."""
        unit = next(name for key, name in _UNITS.items() if getattr(self, key) is not None)
        return f"{self.limit:g} {unit if self.limit != 1 else unit[:-1]}"
