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
    if budget.gpu_hours is not None and not experiment.spec.resources.gpus:
        message = "its trials take no GPU: give cpuh, or set resources.gpus"
    if message:
        raise InputError([Problem("--budget", None, budget.label(), message)])


def propose(
    experiment: Experiment, settings: Settings, budget: Budget, costs: Costs, slots: int
) -> Proposals:
    """Designs that fit, the YAML's own evaluation first; `costs` knows the trials of the YAML."""
    check_unit(experiment, budget)
    designs = _Designs(experiment, settings, budget, costs, slots)
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


class _Designs:
    """What an experiment costs under other evaluations."""

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        budget: Budget,
        costs: Costs,
        slots: int,
    ) -> None:
        self._experiment, self._settings, self._budget = experiment, settings, budget
        self._costs, self._slots = costs, slots
        resources = experiment.spec.resources
        devices = resources.gpus if budget.gpu_hours is not None else resources.cpus
        self.room_s = budget.limit * 3600 / (resources.workers * devices)
        """Wall seconds of training and evaluation, one trial after the other."""

    def proposal(self, changes: Mapping[str, Any]) -> Proposal | None:
        """The most seeds under these changes that the budget pays for; None where it pays for none."""
        seconds, holding, seeds = 0.0, [], 0
        for each in self._seeds(changes):
            together = sum(one for one, _ in each)
            if seconds + together > self.room_s:
                break
            seconds, seeds = seconds + together, seeds + 1
            holding += [one + beyond for one, beyond in each]
        return self._said(changes, seeds, seconds, holding) if seeds else None

    def needed_s(self, changes: Mapping[str, Any], seeds: int) -> float:
        """What so many seeds take."""
        every = self._seeds(changes)
        return sum(one for _, each in zip(range(seeds), every, strict=False) for one, _ in each)

    def _seeds(self, changes: Mapping[str, Any]) -> Iterator[list[tuple[float, float]]]:
        """Seed by seed, for each cell: seconds that are left of its trial, and those beyond its work."""
        cells = tuple(changed(cell, changes) for cell in self._experiment.cells)
        other = replace(self._experiment, cells=cells) if changes else self._experiment
        given = self._experiment.seeds
        further = [seed for seed in range(_MOST + len(given)) if seed not in given]
        fresh: dict[str, tuple[float, float]] = {}
        for seed in [*given, *further][:_MOST]:
            each = []
            originals = self._experiment.trials_with([seed])
            for one, was in zip(other.trials_with([seed]), originals, strict=True):
                is_new = not self._settings.trial(one.key).is_dir()
                if not is_new or one.cell not in fresh:
                    took = self._costs.under(one, was)
                    fresh |= {one.cell: took} if is_new else {}
                each.append(fresh[one.cell] if is_new else took)
            yield each

    def _said(
        self, changes: Mapping[str, Any], seeds: int, seconds: float, holding: list[float]
    ) -> Proposal:
        experiment, resources = self._experiment, self._experiment.spec.resources
        hours, rivals = seconds * resources.workers / 3600, len(experiment.cells) - 1
        cpu_hours, gpu_hours = hours * resources.cpus, hours * resources.gpus
        price = self._settings.price
        trial = changed(experiment.cells[0], changes).trial
        decides = rivals > 0 and seeds >= fewest_seeds()
        return Proposal(
            seeds,
            seeds * len(experiment.cells),
            len(trial.evaluation_points()),
            trial.evaluation.full.images,
            cpu_hours,
            gpu_hours,
            wall(holding, self._slots, self._costs.starting()),
            None if price is None else price.of(resources, cpu_hours, gpu_hours),
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
            number(designs.needed_s(one, fewest) / designs.room_s, 2)
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
