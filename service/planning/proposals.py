"""What would a budget buy? Seeds, points of the curve and images are weighed by what they cost and what they find."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dashboards.text import number
from dashboards.verdict.planning import detectable, expected
from dashboards.verdict.statistics import fewest_seeds
from service.experiment.changed import changed
from service.planning.costs import wall
from service.planning.money import Money
from service.resources import Capacity, DeviceHours, Resources
from trainer.errors import InputError, Problem
from trainer.evaluation.enough import fewest_images

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.experiment.budget import Budget
    from service.planning.costs import Costs
    from service.settings import Settings

_MOST = 64
"""Seeds that are proposed at most: more find little more."""
_AS_GOOD = 1.1
"""A design is as good as another if the smallest difference that it finds is at most so many times as large."""
_FEWEST_POINTS = 3
"""Of a curve that is made coarser."""


@dataclass(frozen=True)
class Proposal:
    """One design within the budget."""

    seeds: int
    trials: int
    evaluations: int
    """Points of every trial's curve."""
    images: int
    """Of the reported number."""
    cpu_hours: float
    """At most: cells that are stopped or decided early take less."""
    gpu_hours: float
    wall_s: float
    money: Money | None
    detects: float | None
    """The smallest difference found in 80 %, in standard deviations of a pair; None where none is."""
    finds: float | None
    """Probability to find a difference of one such standard deviation; None: nothing is compared."""
    options: tuple[str, ...]
    """`path=value`, to be typed after -o."""
    is_recommended: bool = False


@dataclass(frozen=True)
class Proposals:
    """What a budget would buy."""

    budget: str
    rows: tuple[Proposal, ...]
    notes: tuple[str, ...] = ()

    @property
    def recommended(self) -> Proposal | None:
        """The design that is recommended, if one can decide anything."""
        return next((row for row in self.rows if row.is_recommended), None)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Proposals:
        """Inverse of `asdict`."""
        rows = []
        for one in data["rows"]:
            money = None if one["money"] is None else Money(**one["money"])
            rows.append(Proposal(**{**one, "money": money, "options": tuple(one["options"])}))
        return cls(data["budget"], tuple(rows), tuple(data["notes"]))


def check_unit(experiment: Experiment, budget: Budget) -> None:
    """InputError for GPU-hours of trials that take none, and for a number of trials, which needs no plan."""
    message = ""
    if budget.trials is not None:
        message = "give hours, such as 40gpuh or 200cpuh: trials can be counted without a plan"
    if budget.gpu_hours is not None and not any(one.gpus for one in experiment.shapes):
        message = "its trials take no GPU: give cpuh, or set resources.gpus"
    if message:
        raise InputError([Problem("--budget", None, budget.label(), message)])


def propose(
    experiment: Experiment, settings: Settings, budget: Budget, costs: Costs, room: Capacity
) -> Proposals:
    """Designs that fit, the YAML's own evaluation first; `costs` knows the trials of the YAML."""
    check_unit(experiment, budget)
    designs = _Designs(experiment, settings, budget, costs, room)
    rows: list[Proposal] = []
    for changes in _changes(experiment):
        one = designs.proposal(changes)
        if one is not None and (not rows or one.seeds > max(row.seeds for row in rows)):
            rows.append(one)
    best = _recommended(rows, experiment.cells[0].trial.evaluation.full.images)
    rows = [replace(row, is_recommended=row is best) for row in rows]
    return Proposals(budget.label(), tuple(rows), tuple(_notes(experiment, designs, rows)))


def _changes(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """To the evaluation: none, half the points, half the images, both."""
    evaluation = experiment.cells[0].trial.evaluation
    points = len(experiment.cells[0].trial.evaluation_points())
    fewer: dict[str, Any] = {}
    if points > _FEWEST_POINTS:
        if evaluation.every_kimg is not None:
            fewer["evaluation.every_kimg"] = 2 * evaluation.every_kimg
        else:
            fewer["evaluation.evaluations"] = max(_FEWEST_POINTS, math.ceil(points / 2))
    shape = experiment.cells[0].trial.data.shape
    half = evaluation.full.images // 2
    smaller: dict[str, Any] = {}
    if half >= max(32, fewest_images(evaluation, shape)):
        smaller["evaluation.full.images"] = half
    yield {}
    yield from (one for one in (fewer, smaller) if one)
    if fewer and smaller:
        yield fewer | smaller


@dataclass(frozen=True)
class _Taken:
    """What is left of one trial."""

    work_s: float
    beyond_s: float
    """That it holds its devices beyond its work."""
    resources: Resources


class _Designs:
    """What an experiment costs under other evaluations."""

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        budget: Budget,
        costs: Costs,
        room: Capacity,
    ) -> None:
        self._experiment, self._settings, self._budget = experiment, settings, budget
        self._costs, self._room = costs, room
        self.limit_s = budget.limit * 3600
        """Seconds of devices of its unit."""

    def proposal(self, changes: Mapping[str, Any]) -> Proposal | None:
        """The most seeds under these changes that the budget pays for; None where it pays for none."""
        spent, taken = 0.0, list[list[_Taken]]()
        for each in self._seeds(changes):
            spent += self._device_s(each)
            if spent > self.limit_s:
                break
            taken.append(each)
        return self._said(changes, taken) if taken else None

    def needed_s(self, changes: Mapping[str, Any], seeds: int) -> float:
        """What so many seeds take of the budget's devices."""
        every = self._seeds(changes)
        return sum(self._device_s(each) for _, each in zip(range(seeds), every, strict=False))

    def _device_s(self, each: list[_Taken]) -> float:
        return sum(one.work_s * self._budget.devices(one.resources) for one in each)

    def _seeds(self, changes: Mapping[str, Any]) -> Iterator[list[_Taken]]:
        """Seed by seed, what is left of each cell's trial."""
        cells = tuple(changed(cell, changes) for cell in self._experiment.cells)
        other = replace(self._experiment, cells=cells) if changes else self._experiment
        given = self._experiment.seeds
        further = [seed for seed in range(_MOST + len(given)) if seed not in given]
        fresh: dict[str, _Taken] = {}
        for seed in [*given, *further][:_MOST]:
            each = []
            originals = self._experiment.trials_with([seed])
            for one, was in zip(other.trials_with([seed]), originals, strict=True):
                is_new = not self._settings.trial(one.key).is_dir()
                if not is_new or one.cell not in fresh:
                    took = _Taken(*self._costs.under(one, was), was.resources)
                    fresh |= {one.cell: took} if is_new else {}
                each.append(fresh[one.cell] if is_new else took)
            yield each

    def _said(self, changes: Mapping[str, Any], taken: list[list[_Taken]]) -> Proposal:
        experiment, seeds = self._experiment, len(taken)
        rivals, every = len(experiment.cells) - 1, [one for each in taken for one in each]
        hours = DeviceHours.of((one.work_s, one.resources) for one in every)
        held = [(one.work_s + one.beyond_s, one.resources) for one in every]
        price = self._settings.price
        trial = changed(experiment.cells[0], changes).trial
        decides = rivals > 0 and seeds >= fewest_seeds()
        return Proposal(
            seeds,
            seeds * len(experiment.cells),
            len(trial.evaluation_points()),
            trial.evaluation.full.images,
            hours.cpu,
            hours.gpu,
            wall(held, self._room, self._costs.starting()),
            None if price is None else price.of(hours),
            detectable(seeds, rivals) if decides else None,
            (expected((seeds,), rivals, 1.0).finds if decides else 0.0) if rivals else None,
            (f"seeds={seeds}", *(f"{path}={value:g}" for path, value in changes.items())),
        )


def _recommended(rows: list[Proposal], images: int) -> Proposal | None:
    """The least change that finds as much; images go last, since fewer of them add noise to the number itself."""
    deciding = [row for row in rows if row.detects is not None]
    whole = [row for row in deciding if row.images == images] or deciding
    least = min((row.detects or math.inf for row in whole), default=math.inf)
    return next((row for row in whole if (row.detects or math.inf) <= _AS_GOOD * least), None)


def _notes(experiment: Experiment, designs: _Designs, rows: list[Proposal]) -> Iterator[str]:
    fewest, rivals = fewest_seeds(), len(experiment.cells) - 1
    if rivals == 0:
        yield "one cell alone is compared with nothing: no design of it can decide"
        return
    best = next((row for row in rows if row.is_recommended), None)
    if best is None:
        changes = list(_changes(experiment))
        first, last = (
            number(designs.needed_s(one, fewest) / designs.limit_s, 2)
            for one in (changes[0], changes[-1])
        )
        asked = f"{first} times this budget with the YAML's evaluation"
        asked += f", {last} times with half its points and images" if len(changes) == 4 else ""
        yield (
            f"this budget can decide nothing: {fewest} seeds are the fewest that can, for any number of "
            f"cells; they take {asked}; train less (train.kimg) or compare fewer cells"
        )
        return
    if best.seeds == _MOST:
        yield f"more than {_MOST} seeds find little more: a longer training may be the better use"
    if any(row.images != experiment.cells[0].trial.evaluation.full.images for row in rows):
        yield (
            "fewer images add noise of their own to every number, which the column `finds` does not "
            "count, and are another protocol: numbers cannot be compared with earlier ones"
        )
    if best.seeds > fewest:
        looks = tuple(sorted({*range(fewest, best.seeds, math.ceil(fewest / 2)), best.seeds}))
        sooner = expected(looks, rivals, 2.0)
        yield (
            f"-o 'seeds={{first: {fewest}, most: {best.seeds}}}' takes as much at most, and about "
            f"{sooner.trials:.0f} of {best.trials} trials if cells differ by 2 SD of a pair"
        )
