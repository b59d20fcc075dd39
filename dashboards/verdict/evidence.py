"""What is a verdict built on? The trials of a sweep in plain values, whatever they were read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.report import Status


def rung_twin(metric: str) -> str:
    """The name under which a metric is measured along the way: `rung/fid` for `eval/fid`."""
    return "rung/" + metric.rpartition("/")[2]


@dataclass(frozen=True)
class Quantity:
    """What a verdict has to know of a metric."""

    title: str
    """For people: `FID`."""
    lower_is_better: bool
    unit: str = ""
    """Of its numbers; empty: they have none."""
    ratio: bool = True
    """Whether its numbers are compared as ratios; False: as differences in their own unit."""

    @property
    def heading(self) -> str:
        """The title where numbers stand below or beside it."""
        return f"{self.title} in {self.unit}" if self.unit else self.title


class Curve(NamedTuple):
    """One trial's metric over training, in order of `kimg`."""

    kimg: NDArray[np.float64]
    value: NDArray[np.float64]


class Further(NamedTuple):
    """A further protocol under which a cell's finished weights are measured, beside the deciding one."""

    name: str
    metric: str
    """Its name under this protocol: `eval/fid.few`."""
    unlike: str = ""
    """Why its numbers may not be compared with the deciding protocol's on one training: other images; empty: only
    the way of generating differs, so they may."""


class Row(NamedTuple):
    """A cell's final numbers under one protocol: what is compared."""

    cell: str
    metric: str
    protocol: str = ""
    """Name of a further protocol; empty: the deciding one."""

    @property
    def name(self) -> str:
        """`under`, `under@few`: no arm has an @ in its name."""
        return f"{self.cell}@{self.protocol}" if self.protocol else self.cell


@dataclass(frozen=True)
class Trial:
    """What one trial left behind."""

    cell: str
    seed: int
    """Shared with one trial of every other cell."""
    status: Status
    reason: str | None = None
    """Why it diverged or failed."""
    images: int | None = None
    """Images it was trained on so far."""
    seconds: float | None = None
    """Wall seconds of its training and evaluation."""
    finals: Mapping[str, float] = field(default_factory=dict)
    """Metric to final value, of a finished trial; not always finite."""
    protocols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Metric to the protocol ids its numbers were measured under: one, if all is well."""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """Metric to convergence curve; values are not always finite."""
    stopped: str | None = None
    """Why a policy ended its cell for good on the way."""
    draws: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Metric to its value under each generation noise, in order, of a finished trial: their mean is the final
    value. One that is not in it had one noise."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Metric to the standard error of its final value from the generated images alone, where it was asked for."""


@dataclass(frozen=True)
class Evidence:
    """The trials of one sweep, and what is asked of them."""

    trials: tuple[Trial, ...]
    """At most one per cell and seed."""
    cells: tuple[str, ...]
    """In the order of the YAML."""
    metric: str
    """The final metric that decides."""
    quantities: Mapping[str, Quantity]
    """Every metric that may be compared; those that are not in it never are."""
    baseline: str | None = None
    margin: float = 0.02
    """A share: smaller relative differences do not matter."""
    own_margin: float | None = None
    """The same in the metric's own unit, for one that is not compared as a ratio; None: none is known."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds after which a verdict was planned, rising; empty: one, at the seeds that are there."""
    late: frozenset[str] = frozenset()
    """Cells that came after the first verdict: a family of their own, which no error rate covers."""
    order: tuple[int, ...] = ()
    """Seeds in the order in which they count; empty: ascending."""
    further: Mapping[str, tuple[Further, ...]] = field(default_factory=dict)
    """Cell to the further protocols of the deciding metric on the same trainings."""
    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    """Cell to images per training step, where known: a budget has to be a multiple of them."""
    devices: Mapping[str, float] = field(default_factory=dict)
    """Cell to the `cost_unit`s that one of its trials occupies at once; without: one."""
    cost_unit: str = "CPU"

    @cached_property
    def seeds(self) -> list[int]:
        """All seeds that are planned, in the order in which they count."""
        return list(self.order) or sorted({trial.seed for trial in self.trials})

    @property
    def stopped(self) -> dict[str, str]:
        """Cells that a policy ended for good on their way, each with the reason, in order."""
        reasons = {t.cell: t.stopped for t in self.trials if t.stopped is not None}
        return {cell: reasons[cell] for cell in self.cells if cell in reasons}

    @cached_property
    def finished(self) -> list[Trial]:
        """The trials that have final numbers; none of a cell that was stopped on its way."""
        stopped = self.stopped
        ended = [trial for trial in self.trials if trial.status is Status.FINISHED]
        return [trial for trial in ended if trial.cell not in stopped]

    @property
    def final_metrics(self) -> list[str]:
        """Names of the final metrics of which any trial has a number."""
        names = (n for t in self.trials for n, value in t.finals.items() if value == value)
        return list(dict.fromkeys(names))

    @property
    def curve_metric(self) -> str:
        """The metric of the convergence curve: the cheap `rung/...` twin where there is one."""
        rung = rung_twin(self.metric)
        return rung if any(rung in trial.curves for trial in self.trials) else self.metric
