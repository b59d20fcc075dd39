"""What was foretold of a run, and what did it take? Kept beside the experiment, for every run of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.text import duration, hours
from service.planning.money import Money
from trainer.files import write_whole

if TYPE_CHECKING:
    from service.planning.money import Price
    from service.resources import DeviceHours

FILE = "costs.json"
_KEPT = 100
"""Runs of an experiment, the newest."""


@dataclass(frozen=True)
class Totals:
    """What some work takes in all."""

    wall_s: float
    cpu_hours: float
    """Of training and evaluation, over all workers."""
    gpu_hours: float
    disk_bytes: int
    """That it leaves behind."""
    money: Money | None = None
    """By DIFFSWEEP_PRICE."""

    @classmethod
    def of(
        cls,
        wall_s: float,
        hours: DeviceHours,
        disk_bytes: int,
        price: Price | None,
    ) -> Totals:
        """Of trials that train and evaluate for so many hours of devices."""
        money = None if price is None else price.of(hours)
        return cls(wall_s, hours.cpu, hours.gpu, disk_bytes, money)


@dataclass(frozen=True)
class Account:
    """One run."""

    begun_s: float
    """When, as seconds since 1970."""
    trials: int
    """That were to be trained when it began."""
    predicted: Totals | None
    """None where nothing was known of the machine, and no trial ended."""
    basis: str = ""
    """Where the prediction comes from."""
    after_s: float = 0.0
    """How late it was made: 0 before training, else once the first trial had ended."""
    actual: Totals | None = None
    is_whole: bool = False
    """Whether the run did all that it began for, so that both can be compared."""

    def text(self) -> str:
        """`predicted 12 min 10 s and 31 CPU-minutes, took 13 min 05 s and 33 CPU-minutes, 0.02 EUR`."""
        took = "" if self.actual is None else f"took {_said(self.actual)}"
        if self.predicted is None:
            return took
        when = f", {duration(self.after_s)} after its beginning" if self.after_s else ""
        until = "" if self.is_whole else " until it ended early"
        return f"predicted {_said(self.predicted)}{when}; {took}{until}"

    @property
    def ratios(self) -> dict[str, float]:
        """Predicted over actual, where a whole run has both."""
        if self.predicted is None or self.actual is None or not self.is_whole:
            return {}
        pairs = {
            name: (getattr(self.predicted, name), getattr(self.actual, name))
            for name in ("wall_s", "cpu_hours", "gpu_hours", "disk_bytes")
        }
        return {name: said / took for name, (said, took) in pairs.items() if took > 0}

    def tags(self) -> dict[str, str]:
        """For the tracking server."""
        told = {"costs": self.text(), "costs.basis": self.basis}
        return {name: value for name, value in told.items() if value}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"ratios": self.ratios}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Account:
        """Inverse of `to_dict`."""
        parts = {name: value for name, value in data.items() if name != "ratios"}
        for name in ("predicted", "actual"):
            parts[name] = None if data[name] is None else _totals(data[name])
        return cls(**parts)


def _totals(data: dict[str, Any]) -> Totals:
    money = data["money"]
    return Totals(**{**data, "money": None if money is None else Money(**money)})


def _said(one: Totals) -> str:
    unit, amount = ("GPU", one.gpu_hours) if one.gpu_hours else ("CPU", one.cpu_hours)
    money = "" if one.money is None else f", {one.money.text()}"
    return f"{duration(one.wall_s)} and {hours(amount, unit)}{money}"


def accounts(folder: Path) -> list[Account]:
    """Of the runs in an experiment's folder, the oldest first; what cannot be read is left out."""
    try:
        return [Account.of(one) for one in json.loads((folder / FILE).read_text())]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []


def last_run(folder: Path) -> str:
    """What was foretold of the last run that ended, and what it took; empty where there was none."""
    ended = [one for one in accounts(folder) if one.actual is not None]
    return ended[-1].text() if ended else ""


def keep(folder: Path, every: Sequence[Account]) -> None:
    """The newest of them."""
    told = [one.to_dict() for one in every[-_KEPT:]]
    write_whole(folder / FILE, json.dumps(told, indent=1))
