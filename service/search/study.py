"""How far is one search, and what did it find? One study tunes one cell, or all of them together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dashboards.metrics import quantity
from service.experiment.cell import Cell
from service.experiment.changed import changed
from service.experiment.experiment import Experiment
from service.experiment.planned import PlannedTrial
from service.search.candidates import FOLDER, Candidate, Candidates
from service.search.objective import Objective, Values, reached, scores
from trainer.errors import InputError
from trainer.record import Record

if TYPE_CHECKING:
    from service.search.spec import Search
    from service.settings import Settings
    from trainer.trial import TrialSpec


@dataclass
class Study:
    """The candidates of some cells: all of what is known of them is read from files."""

    experiment: Experiment
    settings: Settings
    search: Search
    cells: tuple[Cell, ...]
    """That it tunes, as the YAML has them."""
    candidates: list[Candidate] = field(default_factory=list)
    _values: dict[str, float | None] = field(default_factory=dict)
    """By key of a trial, once it was read."""

    def __post_init__(self) -> None:
        every = self._file.read()
        if every and not self._is_of_this_data(every[0]):
            every = []
        self.candidates = every[: self.search.trials]

    @property
    def cell(self) -> str | None:
        """The cell that it tunes; None for all of them."""
        return self.cells[0].name if self.search.per == "cell" else None

    @property
    def id(self) -> str:
        """What it depends on, as 16 hex digits: another study has another file."""
        return _identity(self.search, self.experiment.metric, self.cells)

    @property
    def objective(self) -> Objective:
        """What is read of a trial."""
        metric, at = self.experiment.metric, self.search.at
        return Objective(metric, None if at is None else math.ceil(1000 * at))

    @property
    def lower_is_better(self) -> bool:
        """Direction of the metric."""
        known = quantity(self.experiment.metric)
        return known is None or known.lower_is_better

    @property
    def _file(self) -> Candidates:
        home = self.settings.experiment(self.experiment.name)
        return Candidates(home / FOLDER / f"{self.id}.jsonl")

    # What is known

    def refresh(self, key: str) -> None:
        """A trial's record has changed."""
        self._values.pop(key, None)

    def values(self) -> dict[int, Values]:
        """By candidate that has ended, its numbers by cell; inf and NaN are the worst."""
        known: dict[int, Values] = {}
        for candidate in self.candidates:
            if candidate.fault:
                known[candidate.number] = {cell.name: (math.inf,) for cell in self.cells}
                continue
            read = {
                cell: [self._value(key) for key in keys] for cell, keys in candidate.keys.items()
            }
            if all(value is not None for values in read.values() for value in values):
                known[candidate.number] = {
                    cell: tuple(value for value in values if value is not None)
                    for cell, values in read.items()
                }
        return known

    def scores(self) -> dict[int, float]:
        """By candidate that has ended: smaller is better, inf is the worst."""
        return scores(self.values(), lower_is_better=self.lower_is_better)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to ask, or to wait for."""
        return len(self.values()) >= self.search.trials

    @property
    def winner(self) -> Candidate | None:
        """The best of all, the earliest of equals; None before the end, and where all are the worst."""
        found = self.scores()
        if len(found) < self.search.trials or not math.isfinite(min(found.values())):
            return None
        return self.candidates[min(found, key=lambda number: (found[number], number))]

    def trial_keys(self) -> list[str]:
        """Of all trials that were asked so far."""
        return [key for candidate in self.candidates for key in candidate.trial_keys()]

    def has_ended(self, key: str) -> bool:
        """Whether a candidate's trial has told its number, or that there will be none."""
        return self._value(key) is not None

    def _value(self, key: str) -> float | None:
        if self._values.get(key) is None:
            self._values[key] = reached(Record(self.settings.trial(key)), self.objective)
        return self._values[key]

    # What is to be done

    def ask(self) -> Candidate:
        """The next candidate, written down before anybody trains it."""
        from service.search.sampler import suggest

        number, found = len(self.candidates), self.scores()
        earlier = {candidate.number: candidate.params for candidate in self.candidates}
        params = suggest(self.search, number, earlier, _told(found))
        candidate = Candidate(number, params, {}, sorted(found))
        try:
            keys = {
                cell.name: [self.experiment.key_of(spec) for spec in self._specs(cell, params)]
                for cell in self.cells
            }
            candidate = replace(candidate, keys=keys)
        except InputError as error:
            candidate = replace(candidate, fault=error.problems[0].message)
        self.candidates.append(candidate)
        self._file.write(self.candidates)
        return candidate

    def trials(self, candidate: Candidate) -> Iterator[PlannedTrial]:
        """Its trials, seeds slowest."""
        if candidate.fault:
            return
        specs = {cell.name: self._specs(cell, candidate.params) for cell in self.cells}
        for place, seed in enumerate(self.search.seed_list()):
            for cell in self.cells:
                name, key = label(candidate, cell), candidate.keys[cell.name][place]
                spec = specs[cell.name][place]
                yield cell.planned(name, seed, spec, key)

    def to_come(self) -> Iterator[PlannedTrial]:
        """The trials of candidates that nobody knows yet, at the setting of the YAML: for what they cost."""
        for number in range(len(self.candidates), self.search.trials):
            for seed in self.search.seed_list():
                for cell in self.cells:
                    name, spec = f"{cell.name} #{number}", cell.with_seed(seed)
                    key = f"untuned-{number}-{spec.digest()}"
                    yield cell.planned(name, seed, spec, key)

    def until(self, trial: PlannedTrial) -> int:
        """Images until which a candidate's trial is wanted."""
        total = trial.spec.total_images()
        return total if self.objective.images is None else min(self.objective.images, total)

    def _specs(self, cell: Cell, params: Mapping[str, Any]) -> list[TrialSpec]:
        tuned = changed(cell, params)
        return [tuned.with_seed(seed) for seed in self.search.seed_list()]

    def _is_of_this_data(self, first: Candidate) -> bool:
        """Candidates whose trials learned from other data than there is now are forgotten."""
        if self.experiment.saved_trials or first.fault:
            return True
        return all(trial.key == self.experiment.key_of(trial.spec) for trial in self.trials(first))


def _identity(search: Search, metric: str, cells: Sequence[Cell]) -> str:
    given = search.model_dump(mode="json", exclude={"trials"})
    trained = {cell.name: cell.with_seed(0).key("") for cell in cells}
    text = json.dumps([given, metric, trained], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def label(candidate: Candidate, cell: Cell) -> str:
    """What a candidate is called among the trials: `under #7`."""
    return f"{cell.name} #{candidate.number}"


def studies(experiment: Experiment, settings: Settings) -> list[Study]:
    """One for each cell, or one for all; none where nothing is searched."""
    search = experiment.spec.search
    if search is None:
        return []
    return [Study(experiment, settings, search, group) for group in _groups(experiment, search)]


def tuned_by(experiment: Experiment) -> dict[str, str]:
    """Cell to the id of the study that tunes it; needs no files."""
    search = experiment.spec.search
    if search is None:
        return {}
    return {
        cell.name: _identity(search, experiment.metric, group)
        for group in _groups(experiment, search)
        for cell in group
    }


def _groups(experiment: Experiment, search: Search) -> list[tuple[Cell, ...]]:
    """The cells that are tuned together."""
    cells = experiment.untuned
    return [cells] if search.per == "all" else [(cell,) for cell in cells]


def tuned(experiment: Experiment, settings: Settings) -> Experiment:
    """The experiment with the winners of every search that has ended, as its files say."""
    if experiment.saved_trials:  # it is known which were run
        return experiment
    experiment = experiment.shared()
    winners: dict[str, Mapping[str, Any]] = {}
    for study in studies(experiment, settings):
        if (winner := study.winner) is not None:
            winners |= {cell.name: winner.params for cell in study.cells}
    return experiment.with_winners(winners)


def to_tune(experiment: Experiment, settings: Settings) -> list[tuple[PlannedTrial, int]]:
    """The candidates' trials that are still to be trained, each with its images; foreseen where none is known."""
    left = []
    for study in studies(experiment, settings):
        asked = [trial for candidate in study.candidates for trial in study.trials(candidate)]
        open_ones = {trial.key: trial for trial in asked if not study.has_ended(trial.key)}
        every = [*open_ones.values(), *study.to_come()]
        left += [(trial, study.until(trial)) for trial in every]
    return left


def _told(found: Mapping[int, float]) -> dict[int, float]:
    """Scores for a sampler: the worst are as bad as the worst that has a number."""
    finite = [score for score in found.values() if math.isfinite(score)]
    worst = max(finite, default=0.0)
    return {number: min(score, worst) for number, score in found.items()}
