"""What did the trials of a sweep report? Two tidy tables, whatever they were read from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import ValidationError

from dashboards import tables
from dashboards.directories import Picture, Planned, read_trial
from dashboards.further import further
from dashboards.levels import Interval
from dashboards.metrics import quantities, shared_space
from dashboards.tuning import Tuning
from dashboards.verdict import comparable
from dashboards.verdict.evidence import Curve, Evidence, Further, Trial, rung_twin
from trainer.evaluation.protocol import Evaluation
from trainer.report import Status

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep: `trials` has one row per trial, `curves` one per reported number."""

    name: str
    cells: list[str]
    """In YAML order."""
    baseline: str | None
    metric: str
    margin: float
    """A share: smaller relative differences do not matter."""
    trials: pd.DataFrame
    """`TRIAL_COLUMNS`, then one column per final metric."""
    curves: pd.DataFrame
    """`CURVE_COLUMNS`."""
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Cell to its resolved trial as JSON."""
    samples: dict[tuple[str, int], tuple[Picture, ...]] = field(default_factory=dict)
    """(cell, seed) to its sample grids, in the order of training."""
    levels: dict[tuple[str, int], tuple[Interval, ...]] = field(default_factory=dict)
    """(cell, seed) to the training loss by noise level, report by report, where it was kept."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Cells that a policy ended for good on their way, each with the reason."""
    draws: dict[tuple[str, int], dict[str, tuple[float, ...]]] = field(default_factory=dict)
    """(cell, seed) to the value of a final metric under each generation noise, where there were several."""
    errors: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    """(cell, seed) to the standard error of a final metric from the images alone, where it was asked for."""
    spaces: dict[str, str] = field(default_factory=dict)
    """Kind of a feature space to what is known of it, such as how well a classifier knows its images."""
    experiment_yaml: str = ""
    devices: Mapping[str, float] = field(default_factory=dict)
    """Cell to the `cost_unit`s one of its trials occupies, all its workers'; without: one. Only for saying costs."""
    cost_unit: str = "CPU"
    """What a trial's hours are hours of: `GPU`, or `CPU` where not every trial has one."""
    own_margin: float | None = None
    """The margin of a metric that is not compared as a ratio, in its own unit."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds after which a verdict was planned; empty: one, at the seeds that are there."""
    order: tuple[int, ...] = ()
    """Seeds in the order in which they count; empty: ascending."""
    late: frozenset[str] = frozenset()
    """Cells that came after the first verdict."""
    clock: pd.DataFrame = field(default_factory=tables.clock_table)
    """`CLOCK_COLUMNS`; no rows of trials that did not say how fast they were."""
    flops: dict[str, float] = field(default_factory=dict)
    """Cell to the floating point operations of training for one image, where they were counted."""
    tuning: tuple[Tuning, ...] = ()
    """The searches that found the cells' settings, or are at it; their candidates are none of `trials`."""

    def __post_init__(self) -> None:
        for frame, columns, what in (
            (self.trials, tables.TRIAL_COLUMNS, "trials"),
            (self.curves, tables.CURVE_COLUMNS, "curves"),
        ):
            absent = [column for column in columns if column not in frame.columns]
            assert not absent, f"{what} lacks the columns {absent}"
        unknown = set(self.trials["cell"]) - set(self.cells)
        assert not unknown, f"trials of unknown cells {sorted(unknown)}"
        assert not self.trials.duplicated(["cell", "seed"]).any(), "two trials share cell and seed"

    def device_seconds(self, rows: pd.DataFrame, seconds: str) -> pd.Series[float]:
        """A column of seconds of trials as seconds of all devices that each occupies."""
        own = {cell: self.devices.get(cell, 1.0) for cell in self.cells}
        return rows[seconds] * rows["cell"].map(own).astype("float64")

    @property
    def seeds(self) -> list[int]:
        """All seeds of the sweep, ascending."""
        return sorted({int(seed) for seed in self.trials["seed"]})

    @property
    def finished(self) -> pd.DataFrame:
        """Rows of the trials that finished."""
        return self.trials[self.trials["status"] == Status.FINISHED]

    @property
    def final_metrics(self) -> list[str]:
        """Names of the final metrics that any trial has."""
        names = tables.final_metrics(self.trials)
        return [name for name in names if self.trials[name].notna().any()]

    @property
    def curve_metric(self) -> str:
        """The metric of the convergence curve: the cheap `rung/...` twin where there is one."""
        rung = rung_twin(self.metric)
        return rung if (self.curves["metric"] == rung).any() else self.metric

    def curve(self, metric: str, *, finished_only: bool = False) -> pd.DataFrame:
        """Rows of one metric ordered by cell (as in the YAML), seed and images."""
        rows = self.curves[self.curves["metric"] == metric]
        if finished_only:
            rows = rows[rows["trial_key"].isin(set(self.finished["trial_key"]))]
        order = pd.Categorical(rows["cell"], categories=self.cells, ordered=True)
        return (
            rows.assign(_order=order)
            .sort_values(["_order", "seed", "images"])
            .drop(columns="_order")
        )

    def protocol(self, metric: str, cells: Iterable[str] | None = None) -> str | None:
        """The one protocol id behind a metric; None for metrics which have none (`train/loss`).

        Raises `IncomparableError` when the cells were measured under different ids.
        """
        return comparable.protocol(self.evidence, metric, cells)

    @property
    def space(self) -> str | None:
        """Kind of the feature space of the metrics; None where it is unknown."""
        return shared_space(self.specs.values())

    @cached_property
    def evidence(self) -> Evidence:
        """The same in plain values, as verdicts are built on."""
        finals = tables.final_metrics(self.trials)
        curves: dict[tuple[Any, Any], dict[str, pd.DataFrame]] = {}
        judged = self.curves[self.curves["metric"].str.startswith(tables.FINAL)]
        by_curve = judged.sort_values("images", kind="stable").groupby(
            ["cell", "seed", "metric"], sort=False
        )
        for (cell, seed, metric), rows in by_curve[["protocol", "kimg", "value"]]:
            curves.setdefault((cell, seed), {})[str(metric)] = rows
        trials = tuple(
            self._trial(row, finals, curves.get((row["cell"], row["seed"]), {}))
            for row in self.trials.to_dict("records")
        )
        sizes = {
            cell: int(spec["train"]["batch_size"])
            for cell, spec in self.specs.items()
            if "batch_size" in spec.get("train", {})
        }
        return Evidence(
            trials=trials,
            cells=tuple(self.cells),
            metric=self.metric,
            quantities=quantities([*finals, *judged["metric"].unique()], self.space),
            baseline=self.baseline,
            margin=self.margin,
            own_margin=self.own_margin,
            looks=self.looks,
            order=self.order,
            late=self.late,
            further=self._further(),
            batch_sizes=sizes,
            devices=self.devices,
            cost_unit=self.cost_unit,
        )

    def _further(self) -> dict[str, tuple[Further, ...]]:
        """By cell; none where its spec is not at hand."""
        found = {}
        for cell, spec in self.specs.items():
            with contextlib.suppress(ValidationError):
                evaluation = Evaluation.saved(spec.get("evaluation") or {})
                found[cell] = further(evaluation, self.metric)
        return found

    def _trial(
        self, row: dict[Any, Any], finals: Sequence[str], curves: dict[str, pd.DataFrame]
    ) -> Trial:
        ids = {self.metric: [row["protocol"]]}
        ids.setdefault(rung_twin(self.metric), []).append(row["protocol_rung"])
        for metric, points in curves.items():
            ids.setdefault(metric, []).extend(points["protocol"])
        status = Status(row["status"])
        cell, seed = str(row["cell"]), int(row["seed"])
        values = {n: float(row[n]) for n in finals} if status is Status.FINISHED else {}
        drawn = self.draws.get((cell, seed), {})
        return Trial(
            cell=cell,
            seed=seed,
            status=status,
            reason=row["reason"] or None if isinstance(row["reason"], str) else None,
            images=round(1000 * row["kimg"]) if math.isfinite(row["kimg"]) else None,
            seconds=float(row["seconds"]) if math.isfinite(row["seconds"]) else None,
            finals=values,
            draws={n: drawn.get(n, (value,)) for n, value in values.items() if value == value},
            errors=self.errors.get((cell, seed), {}),
            protocols={
                metric: tuple(dict.fromkeys(i for i in every if isinstance(i, str) and i))
                for metric, every in ids.items()
            },
            curves={
                metric: Curve(
                    points["kimg"].to_numpy(dtype=np.float64),
                    points["value"].to_numpy(dtype=np.float64),
                )
                for metric, points in curves.items()
            },
            stopped=self.stopped.get(str(row["cell"])),
        )

    @classmethod
    def from_directories(
        cls,
        name: str,
        planned: Sequence[Planned],
        trials_home: Path,
        *,
        metric: str = "eval/fid",
        baseline: str | None = None,
        margin: float = 0.02,
        own_margin: float | None = None,
        looks: tuple[int, ...] = (),
        order: tuple[int, ...] = (),
        late: frozenset[str] = frozenset(),
        stopped: Mapping[str, str] | None = None,
        experiment_yaml: str = "",
        devices: Mapping[str, float] | None = None,
        cost_unit: str = "CPU",
        whole: bool = True,
    ) -> Sweep:
        """Read `trials_home/<trial key>/` of every planned trial; no server is asked.

        `stopped` are the cells that a policy ended for good, each with the reason. Not `whole`: what verdicts need.
        """
        ends = stopped or {}
        read = [
            read_trial(trial, trials_home / trial.key, metric, ends.get(trial.cell), whole)
            for trial in planned
        ]
        return cls(
            name=name,
            cells=list(dict.fromkeys(trial.cell for trial in planned)),
            baseline=baseline,
            metric=metric,
            margin=margin,
            own_margin=own_margin,
            looks=looks,
            order=order,
            late=late,
            trials=tables.trial_table([rows.trial for rows in read]),
            curves=tables.joined(
                (trial.cell, trial.seed, trial.key, points)
                for trial, rows in zip(planned, read, strict=True)
                for points in rows.curves
            ),
            specs=_specs(planned),
            samples=_known(planned, [rows.samples for rows in read]),
            levels=_known(planned, [rows.levels for rows in read]),
            stopped=dict(ends),
            draws=_known(planned, [rows.draws for rows in read]),
            errors=_known(planned, [rows.errors for rows in read]),
            spaces={kind: said for rows in read for kind, said in rows.spaces.items()},
            clock=tables.clock_table([point for rows in read for point in rows.clock]),
            flops={
                trial.cell: rows.flops_per_image
                for trial, rows in zip(planned, read, strict=True)
                if rows.flops_per_image
            },
            experiment_yaml=experiment_yaml,
            devices=dict(devices or {}),
            cost_unit=cost_unit,
        )


def _known(planned: Sequence[Planned], of_each: Sequence[_T | None]) -> dict[tuple[str, int], _T]:
    """(cell, seed) to what its trial has, of those that have any."""
    pairs = zip(planned, of_each, strict=True)
    return {(trial.cell, trial.seed): found for trial, found in pairs if found}


def _specs(planned: Sequence[Planned]) -> dict[str, dict[str, Any]]:
    """Cell to its resolved trial, without the seed in which its trials differ."""
    specs: dict[str, dict[str, Any]] = {}
    for trial in planned:
        if trial.cell not in specs:
            spec = trial.spec.model_dump(mode="json")
            specs[trial.cell] = {key: value for key, value in spec.items() if key != "seed"}
    return specs
