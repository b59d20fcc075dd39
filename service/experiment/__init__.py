"""Which trials does an experiment consist of? `Experiment.from_yaml` answers without Ray and without training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from service.experiment.judgement import Cell, metrics
from service.experiment.resolution import Resolution
from service.experiment.spec import Compare, ExperimentSpec, NoStopping, Resources
from service.settings import load as load_settings
from trainer.errors import InputError, Problem, UserError
from trainer.trial import TrialSpec
from trainer.yaml.overrides import Layered
from trainer.yaml.source import Source, parse, read
from trainer.yaml.wording import leading_path

__all__ = [
    "Cell",
    "Compare",
    "Experiment",
    "ExperimentSpec",
    "NoStopping",
    "PlannedTrial",
    "Resources",
]

SAVED = "experiment.json"
"""In the experiment's directory: what was run last."""
_KEPT = ("name", "seeds", "compare", "stopping", "launcher", "resources")


@dataclass(frozen=True)
class PlannedTrial:
    """Cell x seed: one trial with its key."""

    cell: str
    seed: int
    spec: TrialSpec
    key: str
    """Trial key: the name of its directory, equal for equal trials of all experiments."""


def _data_root() -> Path:
    return load_settings().data or Path.cwd()


@dataclass(frozen=True)
class Experiment:
    """A validated experiment: its spec (baseline filled in), its cells, and where it came from."""

    spec: ExperimentSpec
    cells: tuple[Cell, ...]
    """In the YAML's order, each control after its cell."""
    file: str
    """What messages call its source."""
    text: str
    """The YAML as written."""
    folder: Path
    """Where relative paths in it start."""
    options: tuple[str, ...] = ()
    """Command-line overrides, `path=value`."""
    notes: tuple[str, ...] = ()
    """What a person should know before running it."""
    trees: Mapping[str, Layered] = field(default_factory=dict, repr=False, compare=False)
    """Cell to its values with their origins, to point at the line of what turns out wrong later."""
    data_root: Path = field(default_factory=_data_root, compare=False)
    """Where relative paths of data sets start, for the trials' keys and for their training."""

    @classmethod
    def from_yaml(
        cls, path: Path | str, overrides: Sequence[str] = (), data_root: Path | None = None
    ) -> Experiment:
        """Read and validate a YAML file; `overrides` are `path=value` texts. InputError lists all problems.

        Data sets with a relative path are below `data_root`: DIFFSWEEP_DATA, else the working directory.
        """
        return cls._from_source(read(path), Path(path).resolve().parent, overrides, data_root)

    @classmethod
    def from_text(
        cls,
        text: str,
        folder: Path | str = ".",
        overrides: Sequence[str] = (),
        name: str = "experiment",
        data_root: Path | None = None,
    ) -> Experiment:
        """The same for YAML text; a preset's path is relative to `folder`, messages say `name`."""
        return cls._from_source(parse(text, name), Path(folder).resolve(), overrides, data_root)

    @classmethod
    def from_mapping(
        cls,
        data: Mapping[str, Any],
        folder: Path | str = ".",
        overrides: Sequence[str] = (),
        data_root: Path | None = None,
    ) -> Experiment:
        """The same for a mapping written in Python."""
        text = json.dumps(dict(data), indent=1, ensure_ascii=False)  # JSON is YAML
        source = Source("experiment", dict(data), text)
        return cls._from_source(source, Path(folder).resolve(), overrides, data_root)

    @classmethod
    def _from_source(
        cls, source: Source, folder: Path, overrides: Sequence[str], data_root: Path | None
    ) -> Experiment:
        resolution = Resolution(source, folder, overrides)
        spec, cells = resolution.resolve()
        notes = (*resolution.notes, *_notes(cells))
        return cls(
            spec,
            tuple(cells),
            source.file,
            source.text,
            folder,
            tuple(overrides),
            notes,
            resolution.trees,
            Path(os.path.abspath(data_root)) if data_root is not None else _data_root(),
        )

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.spec.name

    @property
    def seeds(self) -> list[int]:
        """The seeds that every cell is trained with."""
        return self.spec.seed_list()

    @property
    def metric(self) -> str:
        """The number that decides."""
        return self.spec.compare.metric

    @property
    def baseline(self) -> str | None:
        """The cell that the others are compared with; None when there is only one."""
        return self.spec.compare.baseline

    @property
    def shown_metrics(self) -> list[str]:
        """Metrics worth a column while it runs: the deciding one, then what the trials report."""
        return list(dict.fromkeys([self.metric, *metrics(self.cells[0].trial)]))

    @cached_property
    def trials(self) -> list[PlannedTrial]:
        """Every cell with every seed, seeds slowest so that pairs finish together. Reads the data sets.

        Raises InputError when a data set cannot be read.
        """
        fingerprints: dict[str, str] = {}
        problems: list[Problem] = []
        for cell in self.cells:
            data = cell.trial.data
            if data.digest() not in fingerprints:
                try:
                    fingerprints[data.digest()] = data.fingerprint(self.data_root)
                except UserError as error:
                    fingerprints[data.digest()] = ""
                    problems.append(self.problem(cell.name, str(error)))
        if problems:
            raise InputError(problems)
        planned = []
        for seed in self.seeds:
            for cell in self.cells:
                spec = cell.with_seed(seed)
                key = spec.key(fingerprints[spec.data.digest()])
                planned.append(PlannedTrial(cell.name, seed, spec, key))
        return planned

    def problem(self, cell: str, message: str) -> Problem:
        """A complaint of the trainer about a cell (`data.path: ...`), with the line it is about."""
        tree = self.trees.get(cell)
        keys, rest = leading_path(TrialSpec, tree.data if tree is not None else {}, message)
        return (
            tree.problem(keys, rest) if tree is not None else Problem(self.file, None, "", message)
        )

    @classmethod
    def from_resolved(cls, saved: Mapping[str, Any]) -> Experiment:
        """An experiment that was run before, from what `save` wrote; no file of it is needed."""
        spec = ExperimentSpec.model_validate(
            {key: saved[key] for key in _KEPT} | {"base": {}, "controls": saved["controls"]}
        )
        cells = tuple(
            Cell(name, dict(cell["overrides"]), TrialSpec.model_validate(cell["trial"]))
            for name, cell in saved["cells"].items()
        )
        found = cls(spec, cells, saved["file"], saved["yaml"], Path(), tuple(saved["options"]))
        known = {cell.name: cell for cell in cells}
        found.__dict__["trials"] = [
            PlannedTrial(t["cell"], t["seed"], known[t["cell"]].with_seed(t["seed"]), t["key"])
            for t in saved["trials"]
        ]
        return found

    def save(self, directory: Path) -> None:
        """Write `experiment.json`: everything it means and the keys of its trials."""
        trials = [{"cell": t.cell, "seed": t.seed, "key": t.key} for t in self.trials]
        directory.mkdir(parents=True, exist_ok=True)
        partial = directory / f".{SAVED}.{os.getpid()}"
        partial.write_text(json.dumps({**self.resolved(), "trials": trials}, indent=1))
        partial.replace(directory / SAVED)

    def identities(self) -> dict[str, str]:
        """What each cell trains, seeds and data files apart: equal text, equal training."""
        return {cell.name: cell.with_seed(0).key("") for cell in self.cells}

    @staticmethod
    def saved_identities(directory: Path) -> dict[str, str]:
        """The same of the experiment that was run last in a directory; empty if none can be read."""
        try:
            saved = json.loads((directory / SAVED).read_text())
            return {
                name: TrialSpec.model_validate(cell["trial"]).key("")
                for name, cell in saved["cells"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def findings(self) -> list[str]:
        """What the objective passports say of the cells, and the notes."""
        from trainer.diffusion.passport import findings

        distinct: dict[str, Cell] = {}
        for cell in self.cells:  # cells that differ in a learning rate share a passport
            distinct.setdefault(cell.trial.diffusion.digest(), cell)
        cards = {cell.name: cell.trial.diffusion for cell in distinct.values()}
        return [*findings(cards), *self.notes]

    def resolved(self) -> dict[str, Any]:
        """Everything the experiment means, as JSON data: no preset file is needed to read it."""
        return {
            "name": self.name,
            "file": self.file,
            "options": list(self.options),
            "yaml": self.text,
            "seeds": self.seeds,
            "compare": self.spec.compare.model_dump(mode="json"),
            "controls": list(self.spec.controls),
            "stopping": self.spec.stopping.model_dump(mode="json"),
            "launcher": self.spec.launcher,
            "resources": self.spec.resources.model_dump(mode="json"),
            "cells": {
                cell.name: {
                    "overrides": cell.overrides,
                    "trial": cell.trial.model_dump(mode="json", exclude={"seed"}),
                }
                for cell in self.cells
            },
        }


def _notes(cells: Sequence[Cell]) -> list[str]:
    """Differences between cells that a comparison has to live with."""
    notes = []
    if len({cell.trial.total_images() for cell in cells}) > 1:
        notes.append(
            "cells have different budgets (train.kimg, batch_size): compare them on equal images"
        )
    protocols = {
        cell.trial.evaluation.model_copy(update={"batch_size": 1}).digest() for cell in cells
    }
    if len(protocols) > 1:
        notes.append(
            "cells are evaluated differently: numbers of different protocols are not compared"
        )
    if len({cell.trial.data.digest() for cell in cells}) > 1:
        notes.append("cells are trained on different data: their FIDs have different references")
    return notes
