"""What does an experiment's YAML mean? Every cell as a validated trial, or everything that is wrong, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from service.experiment.expansion import Choice, Combination, combine, dimensions
from service.experiment.judgement import Cell, Judgement
from service.experiment.spec import NAME, ExperimentSpec
from trainer.errors import InputError, Problem, UserError, closest, listing
from trainer.learner import build_network
from trainer.trial import TrialSpec
from trainer.yaml.overrides import Fault, Layered, Origin, covers, split
from trainer.yaml.source import Keys, Source, missing_file, parse, read
from trainer.yaml.spec_paths import child, elsewhere
from trainer.yaml.wording import leading_path, shown

_SINGLE_KEYED = ("set", "arms", "axes", "zip")
"""Parts of an experiment whose keys are names or dotted paths themselves."""


@dataclass
class Resolution:
    """The meaning of one document, built up step by step; `problems` collects what is wrong."""

    source: Source
    folder: Path
    options: Sequence[str] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trees: dict[str, Layered] = field(default_factory=dict)
    """Cell to its values with their origins."""
    _unread: set[str] = field(default_factory=set)
    """Keys of the experiment that are wrong, and so were left out."""
    _fits: dict[tuple[str, str], Fault | None] = field(default_factory=dict)

    def resolve(self) -> tuple[ExperimentSpec, list[Cell]]:
        """The experiment and its cells; InputError with all problems."""
        if not isinstance(self.source.data, dict):
            raise InputError([_no_experiment(self.source)])
        self.document = Layered(self.source.data, Origin(self.source, ()), ExperimentSpec)
        for_trials = self._apply_options()
        self.spec = self._experiment()
        self.base = self._base()
        self._change_base(for_trials)
        told = len(self.problems)
        found = dimensions(self.spec.arms, self.spec.axes, self.spec.zip, self._complain)
        clear = len(self.problems) == told
        self._check_names(found)
        self._check_reach(found, for_trials)
        combinations = combine(found, self._complain)
        built = [(combination, self._cell(combination)) for combination in combinations]
        varied_right = self._unread.isdisjoint(("arms", "axes", "zip", "compare"))
        names = [combination.name for combination in combinations]
        cells = [(combination, cell) for combination, cell in built if cell is not None]
        court = Judgement(
            self.spec, self.document, self.base, names, cells, self.trees, self.problems
        )
        baseline = court.baseline() if varied_right else None
        if clear:
            court.refuse_idle_and_repeated()
        every = court.with_twins(baseline)
        court.check_metric(every)
        court.check_workers()
        if baseline is not None and self.document.data.get("compare"):
            court.check_comparable(baseline)
        self._give_up_if_wrong()
        self.notes += court.notes
        compare = self.spec.compare.model_copy(update={"baseline": baseline})
        return self.spec.model_copy(update={"compare": compare}), every

    def _complain(self, keys: Keys, message: str, of_key: bool = False) -> None:
        self.problems.append(self.document.problem(keys, message, of_key))

    def _give_up_if_wrong(self) -> None:
        if self.problems:
            raise InputError(self.problems)

    def _apply_options(self) -> list[tuple[Keys, Any, Origin]]:
        """Put the options for the experiment into the document; return those for the trials."""
        for_trials = []
        for text in self.options:
            path, equals, written = text.partition("=")
            path, name = path.strip(), f"-o {text}"
            first = path.split(".")[0]
            if not equals or not path:
                message = "write an override as -o path=value, such as -o train.kimg=20"
                self.problems.append(Problem(name, None, "", message))
                continue
            try:
                source = Source(name, parse(written, name).data)
            except InputError as error:
                self.problems += [Problem(name, None, path, p.message) for p in error.problems]
                continue
            keys = self._option_keys(path)
            origin = Origin(source, keys)
            if first in ExperimentSpec.model_fields:
                self._note(self.document.put(keys, source.data, origin))
            elif first in TrialSpec.model_fields:
                for_trials.append((keys, source.data, origin))
            else:
                self.problems.append(origin.problem((), _unknown_option(path)))
        return for_trials

    def _option_keys(self, path: str) -> Keys:
        """`arms.under.diffusion.timesteps` reaches into the arm `under`; `axes.optimizer.lr` is one axis."""
        first, _, rest = path.partition(".")
        if not rest or first not in _SINGLE_KEYED:
            return split(path)
        known = child(self.document.data, first) if first == "arms" else None
        for arm in known if isinstance(known, dict) else ():
            if rest.startswith(f"{arm}."):
                return (first, arm, rest.removeprefix(f"{arm}."))
        return (first, rest)

    def _note(self, problem: Problem | None) -> None:
        if problem is not None:
            self.problems.append(problem)

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
        origin, below = self.document.origin_of(("base",))
        if isinstance(base, dict):
            return Layered(base, Origin(origin.source, (*origin.keys, *below)), TrialSpec)
        path = self.folder / base
        if not path.is_file():
            self._complain(
                ("base",),
                f"{base} {missing_file(path, None if Path(base).is_absolute() else self.folder)}",
            )
            self._give_up_if_wrong()
        preset = read(path)
        if not isinstance(preset.data, dict):
            said = "is empty" if preset.data is None else "must be a mapping `key: value`"
            raise InputError(
                [*self.problems, preset.problem((), f"{said}: a preset is a whole trial")]
            )
        return Layered(preset.data, Origin(preset, ()), TrialSpec)

    def _change_base(self, for_trials: Sequence[tuple[Keys, Any, Origin]]) -> None:
        """Apply `set` and the options; remember what is wrong before any cell adds to it."""
        if "seed" in self.base.data:
            message = "is set by the experiment's `seeds`: remove it here"
            self.problems.append(self.base.problem(("seed",), message, of_key=True))
            del self.base.data["seed"]
        original = self.base.copy()
        for path, value in self.spec.set.items():
            self._put(self.base, path, value, ("set", path))
        for keys, value, origin in for_trials:
            if keys == ("seed",):
                self.problems.append(
                    origin.problem((), "seeds are an experiment's: -o 'seeds=[7]'")
                )
            else:
                self._note(self.base.put(keys, value, origin))
        outcome = self.base.faults()
        self.base_faults = set(outcome) if isinstance(outcome, list) else set()
        alone = original.faults() if self.base_faults else []
        self.caused = self.base_faults - set(alone if isinstance(alone, list) else [])

    def _put(self, tree: Layered, path: str, value: Any, keys: Keys) -> bool:
        origin, below = self.document.origin_of(keys)
        place = Origin(origin.source, (*origin.keys, *below))
        if path == "seed":
            problem: Problem | None = place.problem(
                (), "seeds are no override: list them in `seeds`", True
            )
        else:
            problem = tree.put(split(path), value, place)
        self._note(problem)
        return problem is None

    def _check_names(self, found: Sequence[Sequence[Choice]]) -> None:
        if self.spec.arms is None:
            return
        if not found[0]:
            self._complain(("arms",), "is empty: name the cells to compare, or leave `arms` out")
        for name in self.spec.arms:
            if not NAME.fullmatch(name):
                message = (
                    f"`{name}` is not a name for an arm: use letters, digits, `-`, `_` and `.`"
                )
                self._complain(("arms", name), message, of_key=True)

    def _check_reach(
        self, found: Sequence[Sequence[Choice]], for_trials: Sequence[tuple[Keys, Any, Origin]]
    ) -> None:
        """An option that the experiment itself varies would be overwritten without a word."""
        varied = [setting for choices in found for choice in choices for setting in choice.settings]
        for keys, _, origin in for_trials:
            hit = next((s for s in varied if covers(split(s.path), keys)), None)
            if hit is not None:
                owner = ".".join(str(key) for key in hit.keys[: 3 if hit.keys[0] == "arms" else 2])
                message = (
                    f"the experiment varies this itself: change it there, with -o '{owner}=...'"
                )
                self.problems.append(origin.problem((), message))

    def _cell(self, combination: Combination) -> Cell | None:
        tree = self.base.copy()
        placed = [
            self._put(tree, setting.path, setting.value, setting.keys)
            for setting in combination.settings
        ]
        if not all(placed):
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
        overrides = {setting.path: setting.value for setting in combination.settings}
        trial = cast(TrialSpec, outcome)
        if (misfit := self._misfit(trial)) is not None:
            self._place(tree, [misfit])
            return None
        first = self.spec.seed_list()[0]
        return Cell(combination.name, overrides, trial.model_copy(update={"seed": first}))

    def _misfit(self, trial: TrialSpec) -> Fault | None:
        """A network that does not fit the data, found by building it without memory."""
        pair = (trial.model.digest(), trial.data.digest())
        if pair not in self._fits:
            self._fits[pair] = None
            try:
                with torch.device("meta"):
                    build_network(trial, trial.data.shape)
            except UserError as error:
                keys, message = leading_path(TrialSpec, trial.model_dump(mode="json"), str(error))
                self._fits[pair] = Fault(keys, message)
        return self._fits[pair]

    def _place(self, tree: Layered, faults: Sequence[Fault], cause: str = "") -> None:
        """Trace faults to their lines. A value that was right until something else changed says what did."""
        for fault in faults:
            why = f" ({cause})" if cause and tree.is_first(fault.keys) else ""
            self.problems.append(tree.problem(fault.keys, fault.message + why, fault.of_key))


def _no_experiment(source: Source) -> Problem:
    if source.data is None:
        return Problem(source.file, None, "", "is empty: an experiment needs `name:` and `base:`")
    said = f"an experiment is a mapping that begins with `name:`, this is {shown(source.data)}"
    return source.problem((), said)


def _unknown_option(path: str) -> str:
    """Which option was meant."""
    name = path.split(".")[-1]
    homes = elsewhere(TrialSpec, name)
    if homes and "." not in path:
        return f"there is no `{path}`, did you mean `{homes[0]}`?"
    known = [*TrialSpec.model_fields, *ExperimentSpec.model_fields]
    first, _, rest = path.partition(".")
    near = closest(first, known)
    if near is not None:
        return f"there is no `{first}`, did you mean `{near}{'.' + rest if rest else ''}`?"
    return f"there is no `{first}`; known: {listing(known)}"
