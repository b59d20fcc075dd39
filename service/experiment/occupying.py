"""What do the trials of each cell occupy? The experiment's `resources`, and what arms, axes and zip say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from dashboards.text import names
from service.experiment.expansion import Combination, Setting, is_resources
from service.resources import Asked
from trainer.errors import Problem
from trainer.sharing import kind, refusal
from trainer.spec import Spec
from trainer.yaml.keys import Keys, split
from trainer.yaml.overrides import Layered, Origin

if TYPE_CHECKING:
    from service.experiment.cell import Cell
    from service.experiment.spec import ExperimentSpec

HOME = "resources"


class _Holder(Spec):
    """What paths such as `resources.gpus` lead into."""

    resources: Asked = Asked()


@dataclass
class Occupying:
    """What cells say of it; `problems` is added to."""

    spec: ExperimentSpec
    document: Layered
    problems: list[Problem]
    _trees: dict[str, Layered] = field(default_factory=dict)
    """By cell that says something itself."""

    def of(self, combination: Combination) -> Asked | None:
        """What is asked for trials of a cell; None, and told, where that is wrong."""
        own = [setting for setting in combination.settings if is_resources(setting)]
        if not own:
            return self.spec.resources
        tree, before = self._default(), len(self.problems)
        for setting in own:
            origin, below = self.document.origin_of(setting.keys)
            place = Origin(origin.source, (*origin.keys, *below))
            self.problems += tree.merge(split(setting.path), setting.value, place).problems
        outcome = tree.faults()
        if isinstance(outcome, list):
            self.problems += [tree.problem(one.keys, one.message, one.of_key) for one in outcome]
        if len(self.problems) > before:
            return None
        self._trees[combination.name] = tree
        return cast(_Holder, outcome).resources

    def _default(self) -> Layered:
        """The experiment's own, with its origins; where it is wrong that is told already."""
        tree = self.document.copy()
        tree.model, tree.data = _Holder, {HOME: self.spec.resources.model_dump(mode="json")}
        return tree

    def check(self, cells: Sequence[Cell]) -> None:
        """Workers share every batch evenly, one process is enough in place, and a budget counts something."""
        wide = [cell for cell in cells if cell.resources.workers > 1 or cell.asked.is_elastic]
        for cell in wide:
            batch, asked = cell.trial.train.batch_size, cell.asked
            if not any(batch % number == 0 for number in asked.numbers(batch)):
                who = f"{cell.resources.workers} workers cannot"
                if asked.is_elastic:
                    who = "no such number of workers can"
                why = f"{who} share train.batch_size {batch} (cell `{cell.name}`): use a divisor of {batch}"
                self._point(cell, (HOME, "workers"), why)
                break
        launcher = self.spec.launcher
        if launcher != "train" and wide:
            workers = wide[0].asked.count
            why = f"{launcher} trains in one process"
            if wide[0].name in self._trees:
                message = f"launcher: {why}, not in {workers} workers: use launcher: train"
                self._point(wide[0], (HOME, "workers"), message)
            else:
                self._complain(
                    ("launcher",), f"{why}, resources.workers is {workers}: use launcher: train"
                )
        if launcher == "ensemble" and any(cell.asked.is_auto for cell in cells):
            message = "auto measures one trial, and an ensemble has several: give the GPU, or its share, that all get"
            self._complain((HOME, "gpus"), message)
        budget = self.spec.budget
        no_gpu = not any(cell.asked.gpus for cell in cells)
        if budget is not None and budget.gpu_hours is not None and no_gpu:
            message = "its trials use no GPU (resources.gpus): give cpu_hours"
            self._complain(("budget", "gpu_hours"), message)

    def notes(self, cells: Sequence[Cell]) -> list[str]:
        """Who shares a process, and who does not and why; nothing where each trial has its own anyway."""
        if self.spec.launcher != "ensemble":
            return []
        alone: dict[str, list[str]] = {}
        for cell in cells:
            if (why := refusal(cell.trial)) is not None:
                alone.setdefault(why, []).append(cell.name)
        lines = [
            f"{names(who)} trains alone, not in the ensemble: {why}" for why, who in alone.items()
        ]
        kinds = {kind(cell.trial) for cell in cells if refusal(cell.trial) is None}
        if len(kinds) > 1:
            lines.append(
                f"the cells are of {len(kinds)} kinds (network, data, batch, precision): trials of one kind share a "
                "process"
            )
        return lines

    def _point(self, cell: Cell, keys: Keys, message: str) -> None:
        tree = self._trees.get(cell.name, self.document)
        self.problems.append(tree.problem(keys, message))

    def _complain(self, keys: Keys, message: str) -> None:
        self.problems.append(self.document.problem(keys, message))


def no_override(setting: Setting) -> str | None:
    """Why something cannot be written among the changes of a trial, and where it belongs; None if it can."""
    if any(leaf[0] == "seed" for leaf in setting.leaves):
        return "seeds are no override: list them in `seeds`"
    if is_resources(setting):
        return f"is no part of a trial: write it below `{HOME}` of the experiment"
    return None


def shapes_lines(cells: Sequence[Cell]) -> list[str]:
    """`a trial occupies 2 x (1 CPU) in `wide`, 1 CPU in `uniform` and `under``; nothing where that says nothing new."""
    who: dict[str, list[str]] = {}
    for cell in cells:
        who.setdefault(cell.asked.text(), []).append(cell.name)
    if len(who) > 1:
        shapes = ", ".join(f"{shape} in {names(own)}" for shape, own in who.items())
        return [f"a trial occupies {shapes}"]
    usual = cells[0].asked
    return [f"a trial occupies {usual.text()}"] if usual.is_auto or usual.is_elastic else []
