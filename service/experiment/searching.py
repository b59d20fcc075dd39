"""Can everything that a search may try be trained, and be compared? Told before anything is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast

from service.experiment.cell import Cell
from service.experiment.changed import tree_of
from service.experiment.expansion import MOST_SETTINGS, Choice, Setting
from service.experiment.options import Option
from service.search.ranges import Range
from service.search.spec import Search
from trainer.errors import Problem
from trainer.trial import TrialSpec
from trainer.yaml.faults import Fault
from trainer.yaml.keys import Keys, covers, dotted, split
from trainer.yaml.overrides import Layered, Origin
from trainer.yaml.spec_paths import child_at
from trainer.yaml.writer import yaml_text

HOME = ("search", "space")
_COMMON = ("data", "evaluation", "seed")
"""Parts of a trial that cells have in common, or no two numbers of them compare."""
_LOOKED_AT = 10
"""Cells in which values between the ends are tried: most ranges are right or wrong in all."""


@dataclass
class Searching:
    """Looks at a search beside the cells that it tunes; `problems` and `notes` are added to."""

    search: Search
    document: Layered
    cells: Sequence[Cell]
    misfit: Callable[[TrialSpec], Fault | None]
    problems: list[Problem]
    notes: list[str]

    def check(
        self,
        varied: Sequence[Sequence[Choice]],
        for_trials: Sequence[Option],
        seeds: Sequence[int],
        controls: Sequence[str],
    ) -> None:
        """Everything; `controls` are the twins asked for, `seeds` those of the comparison."""
        if (count := len(self.search.space)) > MOST_SETTINGS:
            message = (
                f"searches {count:,} paths, more than {MOST_SETTINGS}: keep the few that matter"
            )
            self._complain(HOME, message)
            return
        before = len(self.problems)
        settings = [
            setting for choices in varied for choice in choices for setting in choice.settings
        ]
        for path in self.search.space:
            self._check_owner(path, settings, for_trials, controls)
        for one, other in combinations(self.search.space, 2):
            if covers(split(one), split(other)) or covers(split(other), split(one)):
                inner = max(one, other, key=len)
                outer = min(one, other, key=len)
                self._complain(
                    (*HOME, inner), f"is part of `{outer}`, which is searched too: keep one"
                )
        if len(self.problems) == before:
            for path, searched in self.search.space.items():
                self._check_values(path, searched)
        self._check_seeds(seeds)
        self._check_at()

    def _check_owner(
        self,
        path: str,
        settings: Sequence[Setting],
        for_trials: Sequence[Option],
        controls: Sequence[str],
    ) -> None:
        """Nobody else may say what is searched: one of the two would be lost without a word."""
        place, keys = (*HOME, path), split(path)
        first = str(keys[0])
        if first in _COMMON:
            why = (
                "seeds are no setting" if first == "seed" else "all cells share it to be comparable"
            )
            self._complain(place, f"cannot be searched, {why}: search another path")
        for setting in settings:
            if _says(split(setting.path), setting.value, keys):
                line = self.document.problem(setting.keys, "", True).line
                where = f" (line {line})" if line is not None else ""
                owner = dotted(setting.keys[:3] if setting.keys[0] == "arms" else setting.keys[:2])
                self._complain(
                    place, f"`{owner}`{where} varies this: search it or vary it, not both"
                )
                break
        for option in for_trials:
            if _says(option.keys, option.value, keys):
                message = "the experiment searches this: change its range, with "
                message += f"-o 'search.space.{path}={{...}}', or leave it out"
                self.problems.append(option.origin.problem((), message))
        if first == "diffusion" and "equal_objective" in controls:
            message = (
                "would change the objective of a cell but not of its twin: leave `controls` out,"
            )
            self._complain(place, f"{message} or search what is not below `diffusion`")

    def _check_values(self, path: str, one: Range) -> None:
        """The ends of a range, and all of a choice, in every cell."""
        for cell in self.cells:
            for below, value in one.ends():
                if not self._is_possible(cell, path, below, value):
                    return
        for cell in self.cells[:_LOOKED_AT]:
            if not self._is_possible_between(cell, path, one):
                return

    def _is_possible_between(self, cell: Cell, path: str, one: Range) -> bool:
        """What a sampler draws inside ends that are right; False, and told, where no more cells need be looked at."""
        values, lost = one.between(), {}
        place = self._origin((*HOME, path))
        for value in values:
            outcome = self._tried(cell, path, place, value)[1]
            if isinstance(outcome, list):
                lost[value] = outcome[0]
            elif outcome.total_images() != cell.trial.total_images():
                self._refuse_unequal(
                    place, cell, outcome, value, " or list with `choice` what divides the budget"
                )
                return False
        if not lost:
            return True
        value, fault = next(iter(lost.items()))
        (kind, ends), *_ = one.model_dump().items()
        if value != round(value) and not isinstance(
            self._tried(cell, path, place, round(value))[1], list
        ):
            whole = yaml_text({"int": [round(end) for end in ends]})
            message = (
                f"needs whole numbers, and {kind} draws such as {yaml_text(value)}: write {whole}"
            )
            self.problems.append(place.problem((), message))
            return False
        why = f"impossible in cell `{cell.name}`, such as {yaml_text(value)} ({dotted(fault.keys)}: {fault.message})"
        self.notes.append(
            f"search.space.{path}: {len(lost)} of {len(values)} values between its ends that were tried are {why}: "
            "candidates that draw one are lost; list the possible ones with `choice`"
        )
        return False

    def _is_possible(self, cell: Cell, path: str, below: Keys, value: Any) -> bool:
        origin = self._origin((*HOME, path))
        place = Origin(origin.source, (*origin.keys, *below))
        if misplaced := tree_of(cell).merge(split(path), value, origin).problems:
            self.problems += misplaced
            return False
        tree, outcome = self._tried(cell, path, place, value)
        if isinstance(outcome, list):
            for fault in outcome:
                self._trace(tree, fault, place, cell)
            return False
        if outcome.total_images() != cell.trial.total_images():
            self._refuse_unequal(origin, cell, outcome, value)
            return False
        return True

    def _tried(
        self, cell: Cell, path: str, place: Origin, value: Any
    ) -> tuple[Layered, TrialSpec | list[Fault]]:
        """The cell's trial at a value, or what is wrong with it there."""
        tree = tree_of(cell)
        tree.merge(split(path), value, place)
        outcome = tree.faults()
        if isinstance(outcome, list):
            return tree, outcome
        trial = cast(TrialSpec, outcome)
        misfit = self.misfit(trial)
        return tree, trial if misfit is None else [misfit]

    def _refuse_unequal(
        self, origin: Origin, cell: Cell, trial: TrialSpec, value: Any, way: str = ""
    ) -> None:
        message = (
            f"at {yaml_text(value)}, cell `{cell.name}` sees {trial.total_images():,} images instead "
            f"of {cell.trial.total_images():,}: no verdict at unequal compute; search another path{way}"
        )
        self.problems.append(origin.problem((), message, True))

    def _trace(self, tree: Layered, fault: Fault, place: Origin, cell: Cell) -> None:
        """A fault of the value itself has its own words; another one says what causes it."""
        origin, below = tree.origin_of(fault.keys)
        if origin.source is place.source:
            self.problems.append(origin.problem(below, fault.message, fault.of_key))
            return
        message = f"makes cell `{cell.name}` impossible: {dotted(fault.keys)}: {fault.message}"
        self.problems.append(place.problem((), message))

    def _check_seeds(self, seeds: Sequence[int]) -> None:
        taken = [seed for seed in seeds if seed in self.search.seed_list()]
        if taken:
            message = (
                f"{taken[0]} is a seed of the search: winners are judged on fresh ones; use others"
            )
            self._complain(("seeds",), message)

    def _check_at(self) -> None:
        """There must be something left to train after it."""
        if self.search.at is None:
            return
        for cell in self.cells:
            points = cell.trial.evaluation_points()
            if all(images < 1000 * self.search.at for images in points[:-1]):
                known = ", ".join(f"{images / 1000:g}" for images in points[:-1][-3:]) or "none"
                message = (
                    f"{self.search.at:g} kimg have no evaluation before the end of cell `{cell.name}` "
                    f"(the last ones are at {known}): write less, or leave `at` out to train to the end"
                )
                self._complain(("search", "at"), message)
                return

    def _origin(self, keys: Keys) -> Origin:
        origin, below = self.document.origin_of(keys)
        return Origin(origin.source, (*origin.keys, *below))

    def _complain(self, keys: Keys, message: str) -> None:
        self.problems.append(self.document.problem(keys, message, of_key=keys[:2] == HOME))


def _says(at: Keys, value: Any, keys: Keys) -> bool:
    """Whether setting `value` at a place of the trial decides what is at `keys`, or the other way round."""
    if covers(keys, at):
        return True
    return covers(at, keys) and isinstance(value, dict) and _holds(value, keys[len(at) :])


def _holds(value: Any, keys: Keys) -> bool:
    """Whether a mapping says something at or below these keys, nested or dotted."""
    if not isinstance(value, dict) or not keys:
        return True
    for key, item in value.items():
        path = split(key)
        if covers(keys, path):
            return True
        if covers(path, keys) and _holds(item, keys[len(path) :]):
            return True
    return child_at(value, keys) is not None
