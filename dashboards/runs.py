"""What did the trials of a sweep report? One tidy data model, whatever it was read from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dashboards.rows import (
    CURVE_COLUMNS,
    STATUSES,
    TRIAL_COLUMNS,
    Planned,
    absent,
    curves_frame,
    read_trial,
    trials_frame,
)
from trainer.errors import UserError


class IncomparableError(UserError):
    """These numbers may not be compared or share an axis; the message says why and the way out."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep: `trials` has one row per trial, `curves` one per reported number."""

    name: str
    cells: list[str]
    """In YAML order."""
    baseline: str | None
    metric: str
    margin: float
    """Relative to the baseline's mean: smaller differences do not matter."""
    trials: pd.DataFrame
    """`TRIAL_COLUMNS`, then one column per final metric."""
    curves: pd.DataFrame
    """`CURVE_COLUMNS`."""
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Cell to its resolved trial as JSON."""
    samples: dict[tuple[str, int], Path] = field(default_factory=dict)
    """(cell, seed) to its last sample grid."""
    experiment_yaml: str = ""
    gpus: float = 0.0
    """GPUs one trial occupies, all its workers'; 0: it ran on the CPU. Only for saying costs."""
    cpus: float = 1.0
    """CPUs one trial occupies, all its workers'. Only for saying costs."""

    def __post_init__(self) -> None:
        for frame, columns, what in (
            (self.trials, TRIAL_COLUMNS, "trials"),
            (self.curves, CURVE_COLUMNS, "curves"),
        ):
            absent = [column for column in columns if column not in frame.columns]
            assert not absent, f"{what} lacks the columns {absent}"
        unknown = set(self.trials["cell"]) - set(self.cells)
        assert not unknown, f"trials of unknown cells {sorted(unknown)}"
        assert not self.trials.duplicated(["cell", "seed"]).any(), "two trials share cell and seed"

    @property
    def devices(self) -> float:
        """How many `cost_unit`s a trial occupies at once."""
        return self.gpus if self.gpus > 0 else self.cpus

    @property
    def cost_unit(self) -> str:
        """What a trial's hours are hours of: `GPU`, or `CPU` where it has none."""
        return "GPU" if self.gpus > 0 else "CPU"

    @property
    def seeds(self) -> list[int]:
        """All seeds of the sweep, ascending."""
        return sorted({int(seed) for seed in self.trials["seed"]})

    @property
    def final_metrics(self) -> list[str]:
        """Names of the final metrics that any trial has."""
        extra = [str(c) for c in self.trials.columns if c not in TRIAL_COLUMNS]
        return [name for name in extra if self.trials[name].notna().any()]

    @property
    def curve_metric(self) -> str:
        """The metric of the convergence curve: the cheap `rung/...` twin where there is one."""
        rung = "rung/" + self.metric.rsplit("/", 1)[-1]
        return rung if (self.curves["metric"] == rung).any() else self.metric

    def curve(self, metric: str, *, finished_only: bool = False) -> pd.DataFrame:
        """Rows of one metric ordered by cell (as in the YAML), seed and images."""
        rows = self.curves[self.curves["metric"] == metric]
        if finished_only:
            done = self.trials.loc[self.trials["status"] == "finished", "trial_key"]
            rows = rows[rows["trial_key"].isin(set(done))]
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
        column = {"eval": "protocol", "rung": "protocol_rung"}.get(metric.split("/")[0])
        if column is None:
            return None
        wanted = set(self.cells if cells is None else cells)
        rows = self.trials[self.trials["cell"].isin(wanted)]
        found: dict[str, list[str]] = {}
        for cell, identifier in zip(rows["cell"], rows[column], strict=True):
            if isinstance(identifier, str) and identifier:
                found.setdefault(identifier, []).append(str(cell))
        curve = self.curves[(self.curves["metric"] == metric) & self.curves["cell"].isin(wanted)]
        for cell, identifier in zip(curve["cell"], curve["protocol"], strict=True):
            if isinstance(identifier, str) and identifier:
                found.setdefault(identifier, []).append(str(cell))
        if len(found) > 1:
            said = "; ".join(
                f"{i} in {', '.join(f'`{name}`' for name in dict.fromkeys(c))}"
                for i, c in found.items()
            )
            raise IncomparableError(
                f"{metric} was measured under {len(found)} protocols ({said}): such numbers cannot"
                f" be compared. Give all cells the same `evaluation`, or compare fewer cells."
            )
        return next(iter(found), None)

    def only(self, cells: Sequence[str]) -> Sweep:
        """The same sweep with fewer cells."""
        kept = [cell for cell in self.cells if cell in set(cells)]
        return replace(
            self,
            cells=kept,
            baseline=self.baseline if self.baseline in kept else None,
            trials=self.trials[self.trials["cell"].isin(kept)].reset_index(drop=True),
            curves=self.curves[self.curves["cell"].isin(kept)].reset_index(drop=True),
            specs={cell: spec for cell, spec in self.specs.items() if cell in kept},
            samples={key: path for key, path in self.samples.items() if key[0] in kept},
        )

    def merged(self, other: Sweep) -> Sweep:
        """Both sweeps' trials; where both have one, the more complete of the two, then this one's.

        Cells of the same name must be the same spec, otherwise `IncomparableError`.
        """
        clash = [c for c in self.specs if c in other.specs and self.specs[c] != other.specs[c]]
        if clash:
            raise IncomparableError(
                f"{self.name} and {other.name} mean different trials by {', '.join(clash)}:"
                f" rename the cell in one of the experiments."
            )
        both = pd.concat([self.trials, other.trials], ignore_index=True)
        rank = both["status"].map({name: place for place, name in enumerate(STATUSES)})
        trials = (
            both.assign(_rank=rank)
            .sort_values("_rank", kind="stable")
            .drop_duplicates(["cell", "seed"])
            .sort_index()
            .drop(columns="_rank")
            .reset_index(drop=True)
        )
        curves = pd.concat([self.curves, other.curves], ignore_index=True).drop_duplicates(
            ["cell", "seed", "trial_key", "metric", "images"]
        )
        kept = set(zip(trials["cell"], trials["seed"], trials["trial_key"], strict=True))
        own = [
            key in kept
            for key in zip(curves["cell"], curves["seed"], curves["trial_key"], strict=True)
        ]
        return replace(
            self,
            cells=[*self.cells, *(c for c in other.cells if c not in self.cells)],
            trials=trials,
            curves=curves[own].reset_index(drop=True),
            specs={**other.specs, **self.specs},
            samples={**other.samples, **self.samples},
        )

    @classmethod
    def from_directories(
        cls,
        name: str,
        planned: Sequence[Planned],
        trials_home: Path,
        *,
        failures: Mapping[str, str] | None = None,
        metric: str = "eval/fid",
        baseline: str | None = None,
        margin: float = 0.02,
        experiment_yaml: str = "",
        gpus: float = 0.0,
        cpus: float = 1.0,
    ) -> Sweep:
        """Read `trials_home/<trial key>/` of every planned trial; no server is asked.

        `failures` maps a trial key to why the trial failed: what the directory cannot know.
        """
        found = [
            read_trial(trial, trials_home / trial.key, (failures or {}).get(trial.key))
            for trial in planned
        ]
        return cls(
            name=name,
            cells=list(dict.fromkeys(trial.cell for trial in planned)),
            baseline=baseline,
            metric=metric,
            margin=margin,
            trials=trials_frame([rows.trial for rows in found]),
            curves=curves_frame([point for rows in found for point in rows.curve]),
            specs=_specs(planned),
            samples={
                (trial.cell, trial.seed): rows.sample
                for trial, rows in zip(planned, found, strict=True)
                if rows.sample is not None
            },
            experiment_yaml=experiment_yaml,
            gpus=gpus,
            cpus=cpus,
        )

    @classmethod
    def from_rows(
        cls,
        name: str,
        trials: Sequence[Mapping[str, Any]],
        curves: Sequence[Mapping[str, Any]],
        *,
        planned: Sequence[Planned] = (),
        metric: str = "eval/fid",
        baseline: str | None = None,
        margin: float = 0.02,
        experiment_yaml: str = "",
        gpus: float = 0.0,
        cpus: float = 1.0,
    ) -> Sweep:
        """From the rows of `service.tracking.read_sweep`, which asks MLflow.

        With `planned`, cells come in that order, trials of others are left out and trials without a
        row are "missing"; without it, cells come in the order of the rows.
        """
        keys = {trial.key for trial in planned}
        kept = [row for row in trials if not planned or row["trial_key"] in keys]
        known = {row["trial_key"] for row in kept}
        kept += [absent(trial) for trial in planned if trial.key not in known]
        return cls(
            name=name,
            cells=list(
                dict.fromkeys([*(t.cell for t in planned), *(str(row["cell"]) for row in kept)])
            ),
            baseline=baseline,
            metric=metric,
            margin=margin,
            trials=trials_frame(kept),
            curves=curves_frame([row for row in curves if row["trial_key"] in known]),
            specs=_specs(planned),
            experiment_yaml=experiment_yaml,
            gpus=gpus,
            cpus=cpus,
        )


def _specs(planned: Sequence[Planned]) -> dict[str, dict[str, Any]]:
    """Cell to its resolved trial, without the seed in which its trials differ."""
    found: dict[str, dict[str, Any]] = {}
    for trial in planned:
        if trial.cell not in found:
            spec = json.loads(trial.spec.canonical())
            found[trial.cell] = {key: value for key, value in spec.items() if key != "seed"}
    return found
