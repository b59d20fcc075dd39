"""Which trials does an experiment consist of? `Experiment.from_yaml` plans them; nothing is trained or written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from service.experiment.answers import Answers
from service.experiment.cell import Cell
from service.experiment.changed import changed
from service.experiment.data_sets import input_notes, outlines
from service.experiment.mistaken import a_trial
from service.experiment.named import Named
from service.experiment.planned import PlannedTrial
from service.experiment.remarks import doubtful, findings, remarks
from service.experiment.reported import metrics
from service.experiment.resolution import Resolution
from service.experiment.spec import ExperimentSpec
from service.experiment.starts import Planned, Starts
from service.precisions import measured_last
from service.resources import Resources
from service.settings import load as load_settings
from trainer.data import Outline
from trainer.errors import InputError, Problem
from trainer.presets import shipped
from trainer.trial import TrialSpec
from trainer.yaml.files import display
from trainer.yaml.overrides import Layered
from trainer.yaml.source import Source, read
from trainer.yaml.wording import leading_path
from trainer.yaml.writer import bounded, yaml_document

_UNTUNED = "untuned-"
"""Begins the key of a trial whose setting is still searched."""


def _data_root() -> Path:
    return load_settings().data or Path.cwd()


@dataclass(frozen=True)
class Experiment(metaclass=Named):
    """A validated experiment: its spec (baseline filled in), its cells, and where it came from.

    `Experiment("name")` is the one of that name that was run last in DIFFSWEEP_HOME, else ./runs: no YAML is needed.
    """

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
    home: Path = field(default_factory=lambda: load_settings().home, compare=False)
    """Where results live: trials to start from, and what is known of data sets."""
    whole: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The YAML's values with the preset written out; options are not in it. Empty if it was restored."""
    saved_trials: tuple[PlannedTrial, ...] = field(default=(), repr=False, compare=False)
    """The trials of one that was restored: their keys are what was run, whatever the data has become."""
    winners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Cell to what a search found for it, which `cells` have; nothing before it has ended."""
    written: tuple[Cell, ...] = ()
    """The cells as the YAML has them, where `winners` changed them."""

    @classmethod
    def from_yaml(
        cls,
        path: Path | str,
        overrides: Sequence[str] = (),
        data_root: Path | None = None,
        home: Path | None = None,
    ) -> Experiment:
        """Read and validate a YAML file; `overrides` are `path=value` texts. InputError lists all problems.

        Data sets with a relative path are below `data_root`: DIFFSWEEP_DATA, else the working directory. Trials to
        start from are those of `home`: DIFFSWEEP_HOME, else ./runs.
        """
        if not os.path.exists(path) and (preset := shipped(str(path))) is not None:
            raise InputError([a_trial(display(preset))])
        source = read(path)
        return cls._from_source(source, Path(path).resolve().parent, overrides, data_root, home)

    @classmethod
    def from_mapping(
        cls,
        data: Mapping[str, Any],
        folder: Path | str = ".",
        overrides: Sequence[str] = (),
        data_root: Path | None = None,
        home: Path | None = None,
    ) -> Experiment:
        """The same for a mapping written in Python."""
        values = bounded(data, "experiment")
        source = Source("experiment", values, yaml_document(values))
        return cls._from_source(source, Path(folder).resolve(), overrides, data_root, home)

    @classmethod
    def _from_source(
        cls,
        source: Source,
        folder: Path,
        overrides: Sequence[str],
        data_root: Path | None,
        home: Path | None,
        inside: tuple[Path, ...] = (),
    ) -> Experiment:
        home = load_settings(home=home).home

        def plan(what: Path | Mapping[str, Any]) -> list[Planned]:
            if what in inside:
                raise InputError([Problem(str(what), None, "", "starts from itself")])
            other = read(what) if isinstance(what, Path) else Source("start", dict(what), "")
            where = what.parent if isinstance(what, Path) else folder
            known = (*inside, *([what] if isinstance(what, Path) else []))
            found = cls._from_source(other, where, (), data_root, home, known)
            return [(trial.cell, trial.seed, trial.key) for trial in found.trials]

        starts = Starts(home, folder, plan)
        resolution = Resolution(source, folder, starts, Answers(home), overrides)
        spec, cells = resolution.resolve()
        notes = (*resolution.notes, *remarks(cells), *doubtful(cells))
        return cls(
            spec,
            tuple(cells),
            file=source.file,
            text=source.text,
            folder=folder,
            options=tuple(overrides),
            notes=notes,
            trees=resolution.trees,
            data_root=Path(os.path.abspath(data_root)) if data_root is not None else _data_root(),
            home=home,
            whole=starts.portable({**source.data, "base": resolution.preset}),
        ).shared()

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.spec.name

    @property
    def seeds(self) -> list[int]:
        """The seeds that a cell may be trained with; with planned looks, the first first."""
        return self.spec.seed_list()

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds at the planned looks, rising; one for a fixed number of seeds."""
        return self.spec.looks()

    @property
    def metric(self) -> str:
        """The number that decides."""
        return self.spec.compare.metric

    @property
    def baseline(self) -> str | None:
        """The cell that the others are compared with; None when there is only one."""
        return self.spec.compare.baseline

    @property
    def space(self) -> str | None:
        """The feature space that the cells share, as `dashboards.metrics.space_of` says it; None where they do not."""
        from dashboards.metrics import space_of

        measured = [cell.trial.evaluation for cell in self.cells]
        kinds = {space_of(one.features.kind, one.reference) for one in measured}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def shown_metrics(self) -> list[str]:
        """Metrics worth a column while it runs: the deciding one, then what the trials report."""
        return list(dict.fromkeys([self.metric, *metrics(self.cells[0].trial)]))

    @cached_property
    def trials(self) -> list[PlannedTrial]:
        """Every cell with every seed, seeds slowest so that pairs finish together. Reads the data sets.

        Raises InputError when a data set cannot be read.
        """
        if self.saved_trials:
            return list(self.saved_trials)
        return self.trials_with(self.seeds)

    def trials_with(self, seeds: Iterable[int]) -> list[PlannedTrial]:
        """Every cell with these seeds, whether they are planned or not."""
        planned = []
        for seed in seeds:
            for cell in self.cells:
                spec = cell.with_seed(seed)
                key = self.key_of(spec) if self.is_tuned(cell.name) else _UNTUNED + spec.digest()
                planned.append(cell.planned(cell.name, seed, spec, key))
        return planned

    def key_of(self, spec: TrialSpec) -> str:
        """The key of a trial on the data of one of the cells."""
        found = self.outlines[spec.data.digest()]
        return spec.key(found.fingerprint, "" if found.test is None else found.test.fingerprint)

    @cached_property
    def outlines(self) -> dict[str, Outline]:
        """Digest of a cell's data to what is in it; it is read for it. InputError where a cell cannot train on it."""
        cache = load_settings(home=self.home).cache
        return outlines(self.cells, self.data_root, cache, self.problem)

    def is_tuned(self, cell: str) -> bool:
        """Whether nothing is searched for a cell, or it is found."""
        return self.spec.search is None or cell in self.winners

    @property
    def shapes(self) -> tuple[Resources, ...]:
        """What trials of the cells occupy, each shape once, in the order of the cells."""
        return tuple(dict.fromkeys(cell.resources.slot for cell in self.cells))

    @property
    def least_shapes(self) -> tuple[Resources, ...]:
        """The least that trials of the cells train with."""
        return tuple(dict.fromkeys(cell.choices[0].slot for cell in self.cells))

    @property
    def untuned(self) -> tuple[Cell, ...]:
        """The cells as the YAML has them, whatever a search found."""
        return self.written or self.cells

    def with_winners(self, winners: Mapping[str, Mapping[str, Any]]) -> Experiment:
        """The experiment with what a search found for its cells, or for some of them."""
        if not winners and not self.winners:
            return self
        cells = tuple(
            changed(cell, winners[cell.name]) if cell.name in winners else cell
            for cell in self.untuned
        )
        return replace(self, cells=cells, written=self.untuned, winners=dict(winners)).shared()

    def shared(self) -> Experiment:
        """The experiment with what was measured last, where that is asked for: shares of a GPU, the precision."""
        return self.placed(measured_last(self.home, self.name))

    def placed(self, how: Callable[[Cell], Cell]) -> Experiment:
        """The experiment with the same cells, whose trials occupy what `how` says."""
        if (cells := tuple(map(how, self.cells))) == self.cells:
            return self
        other = replace(self, cells=cells)
        if "outlines" in vars(self):  # of the same data
            vars(other)["outlines"] = self.outlines
        return other

    def problem(self, cell: str, message: str) -> Problem:
        """A complaint of the trainer about a cell (`data.path: ...`), with the line it is about."""
        if (tree := self.trees.get(cell)) is None:
            return Problem(self.file, None, "", message)
        keys, rest = leading_path(TrialSpec, tree.data, message)
        return tree.problem(keys, rest)

    def identities(self) -> dict[str, str]:
        """What each cell trains, seeds, data files and tuning apart: equal text, equal training."""
        return {cell.name: cell.with_seed(0).key("") for cell in self.untuned}

    def findings(self) -> list[str]:
        """What the objective passports say of the cells, and the notes."""
        notes = input_notes(self.cells, self.outlines)
        return [*findings(self.cells, Answers(self.home)), *notes, *self.notes]

    def resolved(self) -> dict[str, Any]:
        """Everything the experiment means, as JSON data: no preset file is needed to read it."""
        return {
            "name": self.name,
            "file": self.file,
            "options": list(self.options),
            "yaml": self.text,
            **self.spec.model_dump(mode="json", include={"seeds", "budget"}),
            **({} if len(self.looks) > 1 else {"seeds": self.seeds}),
            "compare": self.spec.compare.model_dump(mode="json"),
            "controls": list(self.spec.controls),
            "policy": self.spec.policy.model_dump(mode="json"),
            "launcher": self.spec.launcher,
            **({"together": self.spec.together} if self.spec.launcher == "ensemble" else {}),
            "resources": self.spec.resources.model_dump(mode="json"),
            "cells": {cell.name: cell.to_dict(self.spec.resources) for cell in self.untuned},
            **self._searched(),
        }

    def _searched(self) -> dict[str, Any]:
        search, winners = self.spec.search, {name: dict(it) for name, it in self.winners.items()}
        return {"search": search.model_dump(mode="json"), "winners": winners} if search else {}
