"""What should run now? The policy's answer, brought together with what the trials' directories say.

Nothing is remembered here but what can be read again: a driver that starts over decides the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from service.errors import ServiceError
from service.looks import CellState, Looks
from service.policy.base import Design, Standing, Work
from service.records import Records
from service.spending import affordable, has_begun, room
from service.verdict_log import in_force, late_cells
from trainer.record import Record
from trainer.report import Status, Stop

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.settings import Settings


class WorkSource(Protocol):
    """What says which trials are wanted: the agenda of an experiment, or that of a search."""

    @property
    def foreseen(self) -> bool:
        """Whether no record changes what is wanted."""

    def refresh(self, key: str) -> None:
        """Read one trial's record again."""

    def paused(self, key: str, images: int) -> None:
        """A trial says how far it is."""

    def standing(self, key: str) -> Standing:
        """How far a trial is."""

    def next(self, busy: Container[str] = ()) -> tuple[PlannedTrial, int] | None:
        """The most urgent trial on which nobody is at work, with its images."""

    def ahead(self, busy: Container[str] = ()) -> Iterator[tuple[PlannedTrial, int]]:
        """Those of them that are known now, the most urgent first."""

    def wants_more(self, key: str) -> bool:
        """Whether a trial should train beyond its last evaluation."""

    def stops(self) -> dict[str, Stop]:
        """The cells that are stopped for good."""

    def unwritten_stops(self) -> list[tuple[str, Stop]]:
        """Those of them that a trial's record does not know yet."""

    @property
    def has_looks(self) -> bool:
        """Whether cells get seeds until they are decided."""

    def states(self) -> dict[str, CellState]:
        """Then, how far each is."""

    @property
    def is_spent(self) -> bool:
        """Whether a budget keeps something from being begun."""

    def budget_note(self) -> str | None:
        """What it keeps."""


class Agenda:
    """The wanted work of one experiment. Trials that several cells share are one piece of work."""

    def __init__(
        self, experiment: Experiment, settings: Settings, attempt: str | None = ""
    ) -> None:
        """`attempt` names this run of the driver: what broke under this name is not tried again.

        With None nothing that broke is: that is how the experiment stands after its last run.
        """
        self._policy, self._settings = experiment.spec.policy, settings
        self._name, self._rule = experiment.name, experiment.spec.policy.digest()
        self._budget = experiment.spec.budget
        cells = {cell.name: cell.trial for cell in experiment.cells}
        planned = in_force(experiment, settings)
        self._design = Design(
            MappingProxyType(cells),
            tuple(experiment.seeds),
            experiment.spec.compare,
            experiment.looks,
            planned.looks,
            frozenset(late_cells(experiment, planned)),
        )
        self._looks = Looks(self._design)
        self._records = Records(settings, attempt, curves=not self.foreseen)
        self._trials = {(trial.cell, trial.seed): trial for trial in experiment.trials}
        self._cells_of: dict[str, list[tuple[str, int]]] = {}
        for pair, trial in self._trials.items():
            self._cells_of.setdefault(trial.key, []).append(pair)
        self._standings: dict[tuple[str, int], Standing] = {}
        self._reached: dict[str, int] = {}
        self._wanted: dict[str, int] | None = None
        self._states: dict[str, CellState] = {}
        self._stops: dict[str, Stop] = {}
        self._withheld, self._is_spent = 0, False
        for key in self._cells_of:
            self.refresh(key)

    @property
    def foreseen(self) -> bool:
        """Whether no record changes what is wanted."""
        return self._policy.foreseen and self._budget is None and not self._looks.is_planned

    def refresh(self, key: str) -> None:
        """Read one trial's record again."""
        standing = self._records.read(key)
        stops = self._own(Record(self._settings.trial(key)).stops())
        for pair in self._cells_of[key]:
            self._standings[pair] = dataclasses.replace(standing, stopped=stops.get(pair[0]))
        if not self.foreseen:  # else each report would cost more, the more trials there are
            self._wanted = None

    def paused(self, key: str, images: int) -> None:
        """A trial says how far it is, if its reports are on another disk than this one's."""
        self._reached[key] = images

    def standing(self, key: str) -> Standing:
        """How far a trial is."""
        return self._standings[self._cells_of[key][0]]

    def wanted(self) -> dict[str, int]:
        """Trial key to the images until which it is wanted, most urgent first."""
        if self._wanted is None:
            standings = MappingProxyType(self._standings)
            design = self._stop_and_look(standings)
            wanted: dict[str, int] = {}
            for work in self._policy.wanted(design, standings):
                trial = self._planned(work)
                if work.seed in design.seeds_of(work.cell) and work.cell not in self._stops:
                    until = min(work.until_images, trial.spec.total_images())
                    wanted[trial.key] = max(until, wanted.get(trial.key, 0))
            self._wanted = self._within_budget(wanted)
        return self._wanted

    def _stop_and_look(self, standings: Mapping[tuple[str, int], Standing]) -> Design:
        """The cells that are stopped, and the seeds that are open to cells then, in the design that says so."""
        self._stops = _furthest(standings)
        while True:
            self._states = self._looks.states(standings, self._stops)
            opened = {cell: state.seeds for cell, state in self._states.items()}
            design = dataclasses.replace(self._design, open=MappingProxyType(opened))
            fresh = {
                cell: self._stop(cell, why)
                for cell, why in self._policy.stops(design, standings).items()
                if cell not in self._stops and cell != design.compare.baseline
            }
            if not fresh:
                return design
            self._stops |= fresh

    def states(self) -> dict[str, CellState]:
        """How far the evidence on every cell is."""
        self.wanted()
        return self._states

    def stops(self) -> dict[str, Stop]:
        """The cells that are ended for good, each with the reason."""
        self.wanted()
        return dict(self._stops)

    def unwritten_stops(self) -> list[tuple[str, Stop]]:
        """Keys of the stopped cells' trials whose records do not say so yet."""
        stops = self.stops()
        return [
            (trial.key, dataclasses.replace(stops[cell], images=standing.images))
            for (cell, seed), trial in self._trials.items()
            if cell in stops
            and (standing := self._standings[cell, seed]).stopped is None
            and has_begun(standing)
        ]

    def _own(self, stops: Iterable[Stop]) -> dict[str, Stop]:
        """Those of this experiment under its present policy, by cell."""
        mine = (self._name, self._rule)
        return {stop.cell: stop for stop in stops if (stop.experiment, stop.rule) == mine}

    def _stop(self, cell: str, why: str) -> Stop:
        standings = [standing for (c, _), standing in self._standings.items() if c == cell]
        images = max(standing.images for standing in standings)
        kind = self._policy.kind
        return Stop(self._name, cell, kind, self._rule, f"stopped by {kind}: {why}", images)

    @property
    def has_looks(self) -> bool:
        """Whether seeds are given until cells are decided."""
        return self._looks.is_planned

    def open_trials(self) -> list[PlannedTrial]:
        """The planned trials whose seeds are open to their cells, in the plan's order."""
        states = self.states()
        return [t for (cell, seed), t in self._trials.items() if seed in states[cell].seeds]

    def budget_note(self) -> str | None:
        """What the budget keeps from being begun, and whether it is spent; None where it keeps nothing."""
        if self._budget is None:
            return None
        self.wanted()
        if not self._withheld:
            return None
        keys = {trial.key for trial in self.open_trials()}
        begun = sum(has_begun(self.standing(key)) for key in keys)
        label, count = self._budget.label(), len(keys)
        if self._is_spent:
            return f"the budget of {label} is spent: {begun} of {count} trials; raise it to go on"
        return f"the budget of {label} lets {count - self._withheld} of {count} trials begin"

    @property
    def is_spent(self) -> bool:
        """Whether something is wanted that may not begin, because the budget is spent."""
        self.wanted()
        return bool(self._withheld) and self._is_spent

    def _within_budget(self, wanted: dict[str, int]) -> dict[str, int]:
        if self._budget is None:
            return wanted
        standings = {key: self.standing(key) for key in self._cells_of}
        occupied = {key: self._trial(key).resources for key in standings}
        left = room(self._budget, occupied, standings)
        kept = affordable(wanted, standings, left)
        self._withheld, self._is_spent = len(wanted) - len(kept), left == 0
        return kept

    def open_work(self) -> list[tuple[PlannedTrial, int]]:
        """The wanted trials that have not come so far yet, each with its images, most urgent first."""
        return [
            (self._trial(key), until)
            for key, until in self.wanted().items()
            if self._is_open(key, until)
        ]

    def next(self, busy: Container[str] = ()) -> tuple[PlannedTrial, int] | None:
        """The most urgent of them on which nobody is at work."""
        return next(self.ahead(busy), None)

    def ahead(self, busy: Container[str] = ()) -> Iterator[tuple[PlannedTrial, int]]:
        """All of them on which nobody is at work, the most urgent first."""
        for key, until in self.wanted().items():
            if key not in busy and self._is_open(key, until):
                yield self._trial(key), until

    def wants_more(self, key: str) -> bool:
        """Whether a trial should train beyond its last evaluation."""
        return self.wanted().get(key, 0) > self.standing(key).images

    def _planned(self, work: Work) -> PlannedTrial:
        trial = self._trials.get((work.cell, work.seed))
        if trial is None:
            known = ", ".join(self._design.cells), ", ".join(map(str, self._design.seeds))
            raise ServiceError(
                f"the policy {self._policy.kind} wants cell `{work.cell}` with seed {work.seed}, which"
                f" is not planned: the cells are {known[0]}, the seeds {known[1]}",
                "mend its `wanted`, or choose another `policy`",
            )
        return trial

    def _trial(self, key: str) -> PlannedTrial:
        return self._trials[self._cells_of[key][0]]

    def _is_open(self, key: str, until: int) -> bool:
        standing = self.standing(key)
        if standing.status.is_over or standing.status is Status.FAILED:
            return False
        is_whole = until >= self._trial(key).spec.total_images()  # that takes a result
        return is_whole or max(standing.images, self._reached.get(key, 0)) < until


def _furthest(standings: Mapping[tuple[str, int], Standing]) -> dict[str, Stop]:
    """The stops that records know, by cell: of its trials the one that had come furthest."""
    stops: dict[str, Stop] = {}
    for (cell, _), standing in standings.items():
        if (stop := standing.stopped) is not None:
            stops[cell] = max(stop, stops.get(cell, stop), key=lambda each: each.images)
    return stops
