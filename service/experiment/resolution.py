"""What does an experiment's YAML mean? Every cell as a validated trial, or everything that is wrong, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from service.experiment.answers import Answers
from service.experiment.cell import Cell
from service.experiment.comparison import Comparison
from service.experiment.expansion import (
    MOST_TRIALS,
    Choice,
    Combination,
    Setting,
    combine,
    dimensions,
    of_trials,
    settings,
    too_many,
)
from service.experiment.fitting import Fitting
from service.experiment.mistaken import a_trial, is_trial, no_experiment
from service.experiment.occupying import Occupying, no_override
from service.experiment.options import Option, apply_options
from service.experiment.searching import Searching
from service.experiment.spec import ExperimentSpec, name_fault
from service.experiment.starts import StartError, Starts
from trainer.errors import InputError, Problem
from trainer.presets import located, refusal
from trainer.trial import TrialSpec
from trainer.yaml.faults import Fault
from trainer.yaml.keys import Keys, split
from trainer.yaml.overrides import Layered, Merged, Origin
from trainer.yaml.source import Source, read
from trainer.yaml.spec_paths import child_at


@dataclass
class Resolution:
    """The meaning of one document, built up step by step; `problems` collects what is wrong."""

    source: Source
    folder: Path
    starts: Starts
    answers: Answers
    options: Sequence[str] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trees: dict[str, Layered] = field(default_factory=dict)
    """Cell to its values with their origins."""
    preset: dict[str, Any] = field(default_factory=dict)
    """The values of `base`, before `set` and options change them."""
    _unread: set[str] = field(default_factory=set)
    """Keys of the experiment that are wrong, and so were left out."""

    def resolve(self) -> tuple[ExperimentSpec, list[Cell]]:
        """The experiment and its cells; InputError with all problems."""
        if not isinstance(self.source.data, dict):
            raise InputError([no_experiment(self.source)])
        if is_trial(self.source.data):
            raise InputError([a_trial(self.source.file)])
        self.document = Layered(self.source.data, Origin(self.source, ()), ExperimentSpec)
        arms = self.document.data.get("arms")
        if isinstance(
            arms, dict
        ):  # `plain:` with nothing after it is the base, and options may add to it
            self.document.data["arms"] = {n: {} if a is None else a for n, a in arms.items()}
        for_trials = apply_options(self.options, self.document, self.problems)
        self.spec = self._experiment()
        self.fitting = Fitting(self.answers)
        self.occupying = Occupying(self.spec, self.document, self.problems)
        self.base = self._base()
        self.preset = self.base.copy().data
        self._change_base(for_trials)
        before = len(self.problems)
        if (why := too_many(self.spec.arms, self.spec.axes, self.spec.zip)) is not None:
            self._complain(*why)
            self._give_up_if_wrong()
        varied = dimensions(self.spec.arms, self.spec.axes, self.spec.zip, self._complain)
        clear = len(self.problems) == before
        self._check_names(varied)
        self._check_reach(varied, for_trials)
        combinations = combine(varied)
        built = [(combination, self._cell(combination)) for combination in combinations]
        self._check_size(len(combinations))
        is_read = self._unread.isdisjoint(("arms", "axes", "zip", "compare"))
        names = [combination.name for combination in combinations]
        cells = [(combination, cell) for combination, cell in built if cell is not None]
        comparison = Comparison(
            self.spec,
            self.document,
            self.base,
            names,
            cells,
            self.trees,
            self.problems,
            self.answers,
        )
        baseline = comparison.baseline() if is_read else None
        if clear:
            comparison.refuse_idle_and_repeated()
        every = comparison.with_twins(baseline)
        comparison.check_metric(every)
        self.occupying.check(every)
        if self.spec.search is not None:
            said = (self.problems, self.notes)
            Searching(self.spec.search, self.document, every, self.fitting.fault, *said).check(
                varied, for_trials, self.spec.seed_list(), self.spec.controls
            )
        if baseline is not None and self.document.data.get("compare"):
            comparison.check_comparable(baseline)
        self._give_up_if_wrong()
        self.notes += [*self._overridden_faults(), *comparison.notes, *self.occupying.notes(every)]
        compare = self.spec.compare.model_copy(update={"baseline": baseline})
        return self.spec.model_copy(update={"compare": compare}), every

    def _complain(self, keys: Keys, message: str, of_key: bool = False) -> None:
        self.problems.append(self.document.problem(keys, message, of_key))

    def _give_up_if_wrong(self) -> None:
        if self.problems:
            raise InputError(self.problems)

    def _experiment(self) -> ExperimentSpec:
        """The document as a spec. Parts that are wrong are reported, and left out to look at the rest."""
        outcome = self.document.faults()
        if not isinstance(outcome, list):
            return cast(ExperimentSpec, outcome)
        self._place(self.document, outcome)
        wrong = self._unread = {str(fault.keys[0]) for fault in outcome if fault.keys}
        data = self.document.data
        if "base" in wrong or "base" not in data:
            self._give_up_if_wrong()
        rest = {key: value for key, value in data.items() if key not in wrong}
        left = Layered(
            {"name": "unnamed", **rest}, Origin(self.source, ()), ExperimentSpec
        ).faults()
        if isinstance(left, list):
            self._give_up_if_wrong()
        return cast(ExperimentSpec, left)

    def _base(self) -> Layered:
        """The trial that the cells start from, from its preset file or inline."""
        base = self.spec.base
        if isinstance(base, dict):
            return self.document.below("base", TrialSpec)
        if (why := refusal(base, self.folder)) is not None:
            self._complain(("base",), why)
            self._give_up_if_wrong()
        preset = read(located(base, self.folder))
        if not isinstance(preset.data, dict):
            fault = "is empty" if preset.data is None else "must be a mapping `key: value`"
            raise InputError(
                [*self.problems, preset.problem((), f"{fault}: a preset is a whole trial")]
            )
        if "base" in preset.data:
            message = (
                "is an experiment itself: a preset is one whole trial, with data, model and train"
            )
            raise InputError([*self.problems, Problem(preset.file, None, "", message)])
        return Layered(preset.data, Origin(preset, ()), TrialSpec)

    def _change_base(self, for_trials: Sequence[Option]) -> None:
        """Apply `set` and the options; remember what is wrong before any cell adds to it."""
        if "seed" in self.base.data:
            message = "is set by the experiment's `seeds`: remove it here"
            self.problems.append(self.base.problem(("seed",), message, of_key=True))
            del self.base.data["seed"]
        original = self.base.copy()
        for setting in settings(self.spec.set, ("set",), self._complain):
            self._override(self.base, setting)
        for option in for_trials:
            if option.keys == ("seed",):
                why = "seeds are an experiment's: -o 'seeds=[7]'"
                self.problems.append(option.origin.problem((), why))
            else:
                merged = self.base.merge(option.keys, option.value, option.origin)
                self.problems += merged.problems
                self._note_resets(merged)
        self._settle(self.base)
        outcome = self.base.faults()
        self.base_faults = set(outcome) if isinstance(outcome, list) else set()
        alone = original.faults() if self.base_faults else []
        self.caused = self.base_faults - set(alone if isinstance(alone, list) else [])

    def _overridden_faults(self) -> list[str]:
        """Values of the base that would be wrong, if not every cell had another one in their place."""
        wrong = [
            fault for fault in self.base_faults if child_at(self.base.data, fault.keys) is not None
        ]
        told = {str(self.base.problem(f.keys, f.message, f.of_key)) for f in wrong}
        return [
            f"{one}; nothing uses it, every cell has a value of its own" for one in sorted(told)
        ]

    def _override(self, tree: Layered, setting: Setting) -> dict[str, Any] | None:
        """Put one override into a trial: what it changes by dotted path, None if it cannot be placed."""
        origin, below = self.document.origin_of(setting.keys)
        place = Origin(origin.source, (*origin.keys, *below))
        if (why := no_override(setting)) is not None:
            self.problems.append(place.problem((), why, True))
            return None
        merged = tree.merge(split(setting.path), setting.value, place)
        self.problems += merged.problems
        self._note_resets(merged)
        placed = {".".join(map(str, keys)): value for keys, value in merged.placed.items()}
        return None if merged.problems else placed

    def _note_resets(self, merged: Merged) -> None:
        for reset in map(str, merged.resets):
            if reset not in self.notes:
                self.notes.append(reset)

    def _check_size(self, cells: int) -> None:
        seeds = len(self.spec.seed_list())
        if cells * seeds > MOST_TRIALS:
            message = f"{cells:,} cells with {seeds:,} seeds are {cells * seeds:,} trials, more than {MOST_TRIALS:,}"
            self._complain(("seeds",), f"{message}: write fewer of one or the other")

    def _check_names(self, varied: Sequence[Sequence[Choice]]) -> None:
        if self.spec.arms is None:
            return
        if not varied[0]:
            self._complain(("arms",), "is empty: name the cells to compare, or leave `arms` out")
        for name in self.spec.arms:
            if (message := name_fault(name, "a name for an arm")) is not None:
                self._complain(("arms", name), message, of_key=True)

    def _check_reach(
        self, varied: Sequence[Sequence[Choice]], for_trials: Sequence[Option]
    ) -> None:
        """An option that the experiment itself varies would be overwritten without a word."""
        every = [setting for choices in varied for choice in choices for setting in choice.settings]
        for option in for_trials:
            wished = Setting(".".join(map(str, option.keys)), option.value, option.keys)
            hit = next((setting for setting in every if setting.hides(wished)), None)
            if hit is not None:
                owner = ".".join(str(key) for key in hit.keys[: 3 if hit.keys[0] == "arms" else 2])
                why = f"the experiment varies this itself: change it there, with -o '{owner}=...'"
                self.problems.append(option.origin.problem((), why))

    def _cell(self, combination: Combination) -> Cell | None:
        tree, asked = self.base.copy(), self.occupying.of(combination)
        overrides: dict[str, Any] = {}
        for placed in [self._override(tree, one) for one in of_trials(combination.settings)]:
            if placed is None:
                return None
            overrides |= placed
        if not self._settle(tree):
            return None
        outcome = tree.faults()
        if isinstance(outcome, list):
            own = [fault for fault in outcome if fault not in self.base_faults]
            self._place(tree, own, f"in cell `{combination.name}`")
            caused = [fault for fault in outcome if fault in self.caused]
            self._place(self.base, caused, "after what `set` and -o change")
            plain = [fault for fault in outcome if fault in self.base_faults - self.caused]
            self._place(self.base, plain)
            return None
        self.trees[combination.name] = tree
        trial = cast(TrialSpec, outcome)
        if (misfit := self.fitting.fault(trial)) is not None:
            self._place(tree, [misfit])
            return None
        first = trial.model_copy(update={"seed": self.spec.seed_list()[0]})
        return None if asked is None else Cell(combination.name, overrides, first, asked)

    def _settle(self, tree: Layered) -> bool:
        """Put the directory of the trial that `start_from` means into the trial; False, and told, if there is none."""
        try:
            start = self.starts.settled(tree.data.get("start_from"))
        except StartError as error:
            self.problems.append(tree.problem(("start_from", error.at), str(error)))
        except InputError as error:
            self.problems += error.problems
        else:
            if start is not None:
                tree.data["start_from"] = start
            return True
        return False

    def _place(self, tree: Layered, faults: Sequence[Fault], cause: str = "") -> None:
        """Trace faults to their lines. A value that was right until something else changed says what did."""
        for fault in faults:
            why = f" ({cause})" if cause and tree.is_first(fault.keys) else ""
            self.problems.append(tree.problem(fault.keys, fault.message + why, fault.of_key))
