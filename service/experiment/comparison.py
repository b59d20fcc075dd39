"""Do the cells of an experiment make a comparison? Repeats, arms that change nothing, baseline, metric, controls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from service.experiment.answers import Answers
from service.experiment.cell import Cell
from service.experiment.differing import differing
from service.experiment.expansion import LARGEST_SWEEP, MOST_TRIALS, Combination, of_trials
from service.experiment.remarks import MOST_DESCRIBED
from service.experiment.reported import metrics
from service.experiment.spec import TWIN, ExperimentSpec
from trainer.diffusion.process import Diffusion
from trainer.errors import Problem, closest, listing, suggestion
from trainer.evaluation.metric import KINDS
from trainer.trial import TrialSpec
from trainer.yaml.keys import Keys, covers, split
from trainer.yaml.overrides import Layered
from trainer.yaml.wording import shown
from trainer.yaml.writer import yaml_text


@dataclass
class Comparison:
    """Looks at all cells together; `problems` is added to."""

    spec: ExperimentSpec
    document: Layered
    base: Layered
    names: Sequence[str]
    """All cells, those too that are wrong in themselves."""
    cells: Sequence[tuple[Combination, Cell]]
    """Those that are right in themselves."""
    trees: dict[str, Layered]
    problems: list[Problem]
    answers: Answers
    notes: list[str] = field(default_factory=list)
    _twins: dict[str, Any] = field(default_factory=dict)

    def refuse_idle_and_repeated(self) -> None:
        """Every cell must be a trial of its own."""
        self._refuse_repeats(set(self._idle_arms()))

    def _idle_arms(self) -> Iterator[str]:
        """Arms whose overrides say what the base says already; the baseline may restate it."""
        seen: set[str] = set()
        for combination, cell in self.cells if self.spec.arms is not None else ():
            arm, *others = combination.choices
            mine = of_trials(arm.settings)
            if not mine or arm.label in seen or arm.label == self.spec.compare.baseline:
                continue
            seen.add(arm.label)
            without = self.base.copy()
            for setting in of_trials(setting for choice in others for setting in choice.settings):
                origin, _ = self.document.origin_of(setting.keys)
                without.merge(split(setting.path), setting.value, origin)
            plain = without.faults()
            if (
                isinstance(plain, list)
                or plain.model_copy(update={"seed": cell.trial.seed}) != cell.trial
            ):
                continue
            idle = ", ".join(f"`{s.path}` is {yaml_text(s.value)} already" for s in mine)
            self._complain(arm.keys, f"changes nothing: {idle} in the base; remove this arm", True)
            yield arm.label

    def _refuse_repeats(self, idle: set[str]) -> None:
        """Two cells that are the same trial."""
        first: dict[tuple[str, str], tuple[Combination, Cell]] = {}
        for combination, cell in self.cells:
            same_trial = cell.identity, cell.trial.data.digest()
            earlier, its = first.setdefault(same_trial, (combination, cell))
            pairs = zip(earlier.choices, combination.choices, strict=True)
            choices = [(old, new) for old, new in pairs if old is not new]
            if not choices or choices[0][1].label in idle:
                continue
            old, new = choices[-1]
            line = self.document.problem(old.keys, "", True).line
            where = f" (line {line})" if line is not None else ""
            same = f"gives the same trial as `{old.label}`{where}: remove one of them"
            if paths := differing([its, cell]):
                other = earlier.name if len(choices) > 1 else old.label
                same = (
                    f"differs from `{other}`{where} in {listing(paths)} alone, which changes no number: both would be "
                    "one trial; remove one of them"
                )
            elif its.asked != cell.asked:
                same = (
                    f"differs from `{old.label}`{where} in resources alone, which are no part of a "
                    "trial: both would be one; remove one of them"
                )
            elif len(choices) > 1:
                same = f"cell `{combination.name}` is the same trial as `{earlier.name}`"
            self._complain(new.keys, same, of_key=new.keys[0] == "arms")

    def baseline(self) -> str | None:
        """The cell to compare with: as named, else the base itself, else the first; None when alone."""
        named, names = self.spec.compare.baseline, list(self.names)
        if named is None:
            bare = [cell.name for _, cell in self.cells if not cell.overrides]
            return (bare or names)[0] if len(names) > 1 else None
        if named in names:
            return named
        if self.spec.arms and named in self.spec.arms:
            mine = [name for name in names if name.split(",")[0] == named]
            if not mine:  # no cells at all: what is wrong with the axes is told
                return None
            message = f"`{named}` is an arm, which the axes split into cells: choose one of {listing(mine)}"
        elif named.endswith(TWIN):
            message = (
                f"`{named}` is a control: compare with a cell of yours{suggestion(named, names)}"
            )
        else:
            message = f"`{named}` is no cell{suggestion(named, names)}"
        self._complain(("compare", "baseline"), message)
        return None

    def with_twins(self, baseline: str | None) -> list[Cell]:
        """The cells, each followed by its equal-objective twin if that is asked for and something else."""
        plain = [cell for _, cell in self.cells]
        if "equal_objective" not in self.spec.controls or self.problems:
            return plain
        if baseline is None:
            self._complain(("controls",), "there is only one cell: a control needs a baseline")
            return plain
        reference = next(cell.trial.diffusion for cell in plain if cell.name == baseline)
        if not self._has_room_for_twins(plain, reference):
            return plain
        known = {cell.trial.digest(): cell.name for cell in plain}
        every: list[Cell] = []
        is_any = False
        for cell in plain:
            every.append(cell)
            if cell.name == baseline:
                continue
            changes, why = self._told_of(cell.trial.diffusion, reference)
            if not changes:
                if why:
                    self.notes.append(f"`{cell.name}` has no equal-objective twin: {why}")
                continue
            is_any = True
            twin = self._twin(cell, changes)
            same = known.setdefault(twin.trial.digest(), twin.name)
            if same == twin.name:
                every.append(twin)
            else:
                self.notes.append(f"`{same}` is the equal-objective twin of `{cell.name}` already")
        if not is_any:
            self.notes.append("controls: equal_objective adds nothing: no cell has such a twin")
        return every

    def _told_of(self, cell: Diffusion, reference: Diffusion) -> Any:
        """The twin's changes, or why there is none; asked once of cells that have one objective."""
        known = cell.digest()
        if known not in self._twins:
            told = partial(_told, cell, reference)
            self._twins[known] = self.answers.ask("twin", [cell, reference], told)
        return self._twins[known]

    def _has_room_for_twins(self, plain: Sequence[Cell], reference: Diffusion) -> bool:
        """Whether there are few enough cells and trials with their twins; else told. Of many, all may have one."""
        parts = (cell.trial.diffusion for cell in plain)
        moved = [
            p
            for p in parts
            if (p.timesteps, p.weighting) != (reference.timesteps, reference.weighting)
        ]
        twins = len(moved)
        if len({part.digest() for part in moved}) <= MOST_DESCRIBED:  # few enough to be asked
            twins = sum(bool(self._told_of(part, reference)[0]) for part in moved)
        cells, seeds = len(plain) + twins, len(self.spec.seed_list())
        if cells <= LARGEST_SWEEP and cells * seeds <= MOST_TRIALS:
            return True
        most = f"{LARGEST_SWEEP:,} cells" if cells > LARGEST_SWEEP else f"{MOST_TRIALS:,} trials"
        self._complain(
            ("controls",),
            f"equal_objective makes up to {cells:,} cells of {len(plain):,}, with {seeds:,} seeds {cells * seeds:,} "
            f"trials, more than {most}: shorten what varies the objective, or leave `controls` out",
        )
        return False

    def _twin(self, cell: Cell, changes: dict[str, Any]) -> Cell:
        """The cell with its objective realized the other way."""
        origin, _ = self.document.origin_of(("controls",))
        tree = Layered(cell.trial.model_dump(mode="json"), origin, TrialSpec)
        for path, value in changes.items():
            problem = tree.put(split(path), value, origin)
            assert problem is None, problem
        trial = tree.faults()
        assert isinstance(trial, TrialSpec), trial
        self.trees[cell.name + TWIN] = self.trees[cell.name]
        kept = {
            path: value
            for path, value in cell.overrides.items()
            if not any(covers(split(change), split(path)) for change in changes)
        }
        return Cell(cell.name + TWIN, kept | changes, trial, cell.asked, cell.share)

    def check_metric(self, cells: Sequence[Cell]) -> None:
        """The deciding metric must be measured in every cell."""
        metric = self.spec.compare.metric
        for cell in cells:
            known = metrics(cell.trial)
            if metric in known:
                continue
            protocol, _, name = metric.rpartition("/")
            near = f"eval/{metric}" if f"eval/{metric}" in known else closest(metric, known)
            if protocol == "train":
                message = "losses of different objectives have different scales: compare by "
                message += listing(known)
            elif protocol in ("eval", "rung") and name in KINDS:
                how = "set `evaluation.rung`" if protocol == "rung" else ""
                how = how or f"add `{name}` to `evaluation.metrics`"
                message = f"`{metric}` is not measured by cell `{cell.name}`: {how}, or use {listing(known)}"
            elif near is not None:
                message = f"unknown metric `{metric}`, did you mean `{near}`? Measured are {listing(known)}"
            else:
                message = f"unknown metric {shown(metric)}; measured are {listing(known)}"
            self._complain(("compare", "metric"), message)
            return

    def check_comparable(self, baseline: str) -> None:
        """What is to be compared must have seen equally many images, and be measured alike."""
        trials = {cell.name: cell.trial for _, cell in self.cells}
        if baseline not in trials:  # wrong in itself
            return
        self._check_budgets(baseline, trials)
        self._check_protocols(baseline, trials)

    def _check_budgets(self, baseline: str, trials: Mapping[str, TrialSpec]) -> None:
        reference = trials[baseline]
        images = {name: trial.total_images() for name, trial in trials.items()}
        other = next((n for n, count in images.items() if count != images[baseline]), None)
        if other is None:
            return
        wished = reference.train.kimg
        budget = common_kimg(wished, trials.values())
        same = f"set train.kimg: {yaml_text(budget)}"
        if len({trial.train.batch_size for trial in trials.values()}) > 1:
            same += ", which every batch size divides,"
        if abs(budget - wished) > 0.25 * wished:
            same = f"choose batch sizes with a smaller common multiple, or {same}"
        message = (
            f"cells see different numbers of images, {_grouped(images)}: no verdict at unequal "
            f"compute; {same} for all of them, or leave `compare` out"
        )
        is_batch = trials[other].train.kimg == reference.train.kimg
        self._point(other, ("train", "batch_size" if is_batch else "kimg"), message)

    def _check_protocols(self, baseline: str, trials: Mapping[str, TrialSpec]) -> None:
        """The deciding metric's protocol, and that of the curve, which is the cheap one if there is one."""
        reference = trials[baseline].evaluation
        kinds = (
            ("full", "rung", "draws") if self.spec.compare.metric.startswith("eval/") else ("rung",)
        )
        parts = (*kinds, "features", "noise_seed")
        for name, trial in trials.items():
            wrong = [p for p in parts if getattr(trial.evaluation, p) != getattr(reference, p)]
            if not wrong:
                continue
            message = (
                f"cells `{baseline}` and `{name}` differ in {listing(f'evaluation.{p}' for p in wrong)}: "
                f"numbers of different protocols are not compared; give all cells the same `evaluation`, "
                "or leave `compare` out"
            )
            self._point(name, ("evaluation", wrong[0]), message)
            return

    def _point(self, cell: str, keys: Keys, message: str) -> None:
        self.problems.append(self.trees[cell].problem(keys, message))

    def _complain(self, keys: Keys, message: str, of_key: bool = False) -> None:
        self.problems.append(self.document.problem(keys, message, of_key))


def _told(cell: Diffusion, reference: Diffusion) -> tuple[dict[str, Any] | None, str | None]:
    """What makes its equal-objective twin of a cell, else why there is none."""
    from trainer.diffusion.passport import equal_objective_twin, twin_refusal

    changes = equal_objective_twin(cell, reference)
    return changes, None if changes else twin_refusal(cell, reference)


def common_kimg(wished: float, trials: Iterable[TrialSpec]) -> float:
    """The budget nearest to `wished` that is a whole number of batches for each of the trials."""
    together = math.lcm(*(trial.train.batch_size for trial in trials))
    return max(1, round(1000 * wished / together)) * together / 1000


def _grouped(images: Mapping[str, int]) -> str:
    """`57,600 (`a`, `b`) and 57,344 (`c`)`."""
    names: dict[int, list[str]] = {}
    for name, count in images.items():
        names.setdefault(count, []).append(name)
    return " and ".join(f"{count:,} ({listing(who)})" for count, who in names.items())
