"""How is the account of a run kept? Foretold before it trains, if that costs nothing, and closed at its end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from service import progress
from service.agenda import Agenda
from service.planning.account import Account, Totals, accounts, keep
from service.planning.calibration import NotKnownError
from service.planning.costs import Costs
from service.planning.plan import foreseen, known_bench, total
from service.planning.starting import learn
from service.records import stand
from service.resources import Capacity, DeviceHours
from service.search.study import studies, tuned
from service.spending import seconds
from service.usage import bytes_below, keys_of
from trainer.record import Record

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.outcome import Outcome
    from service.resources import Resources
    from service.settings import Settings


class Book:
    """The account of the run at work."""

    def __init__(self, experiment: Experiment, settings: Settings) -> None:
        self._experiment, self._settings = experiment, settings
        self._folder = settings.experiment(experiment.name)
        self._earlier = accounts(self._folder)
        self._begun, self._since = time.time(), time.monotonic()
        self._before = {key: self._used(key) for key in self._keys()}
        self._room, self._is_cluster, self._place_id = Capacity(most=1), False, ""
        self.account: Account | None = None
        self._holding_s: float | None = None
        """What trials are expected to be held beyond their work, but for their start."""

    def foresee(self, room: Capacity, is_cluster: bool) -> None:
        """Trials begin now, with so much room: say what they will take, if that is known without measuring."""
        if self.account is None:
            self._room, self._is_cluster = room, is_cluster
            self._predict()

    def placed(self, experiment: Experiment) -> None:
        """It is known by now what its trials occupy."""
        self._experiment = experiment

    def hear(self, event: progress.Event) -> None:
        """The first trial that ends tells where nothing else did."""
        is_first = isinstance(event, progress.TrialFinished) and not event.reused
        if is_first and self.account is not None and self.account.predicted is None:
            self._predict()

    def close(self, outcome: Outcome) -> Account | None:
        """What it took; None where nothing was trained."""
        if self.account is None:
            return None
        held, known = outcome.overhead_s, self._holding_s
        launcher, place = self._experiment.spec.launcher, self._place_id
        is_shared = launcher == "ensemble"  # what one holds is held by others, too
        each_s = None if held is None or known is None or is_shared else held - known
        learn(self._settings.cache, launcher, place, outcome.first_step_s, each_s)
        is_whole = not (outcome.interrupted or outcome.failed)
        actual = self._spent(time.monotonic() - self._since)
        self.account = replace(self.account, actual=actual, is_whole=is_whole)
        self._keep()
        return self.account

    def _predict(self) -> None:
        settings, experiment = self._settings, tuned(self._experiment, self._settings)
        bench = known_bench(experiment, settings, self._room, self._is_cluster)
        self._place_id = bench.place_id
        agenda, costs = Agenda(experiment, settings), Costs(experiment, settings, bench)
        trials = self.account.trials if self.account is not None else len(agenda.open_work())
        late = time.monotonic() - self._since if self.account is not None else 0.0
        predicted = None
        with contextlib.suppress(NotKnownError):
            compared, tuning, _ = foreseen(experiment, settings, agenda, costs)
            left = [one for one in compared if not one.status.is_over]
            if left and not late:
                self._holding_s = sum(one.holding_s for one in left) / len(left)
            rest = total(experiment, settings, costs, (tuning, left), self._room, not late)
            predicted = _sum(self._spent(late), rest) if late else rest
        self.account = Account(self._begun, trials, predicted, costs.basis(), late)
        self._keep()

    def _spent(self, wall_s: float) -> Totals:
        """By this run so far."""
        work, written = [(0.0, shape) for shape in self._experiment.shapes], 0
        for key, one in self._keys().items():
            took, there = self._used(key)
            before = self._before.get(key, (0.0, 0))
            work.append((max(0.0, took - before[0]), one))
            written += there - before[1]
        return Totals.of(wall_s, DeviceHours.of(work), max(0, written), self._settings.price)

    def _keys(self) -> dict[str, Resources]:
        """Of all trials that may be trained, what each occupies."""
        known = dict.fromkeys(keys_of(self._folder), self._experiment.shapes[0])
        for study in studies(self._experiment, self._settings):
            by_cell = {cell.name: cell.resources for cell in study.cells}
            for candidate in study.candidates:
                for cell, keys in candidate.keys.items():
                    known |= dict.fromkeys(keys, by_cell[cell])
        return known | {trial.key: trial.resources for trial in self._experiment.trials}

    def _used(self, key: str) -> tuple[float, int]:
        """Seconds of training and evaluation, and bytes."""
        folder = self._settings.trial(key)
        if not folder.is_dir():
            return 0.0, 0
        record = Record(folder)
        reports = None if record.result() is None else ()  # a result says it all
        return seconds(stand(record, None, reports)), bytes_below(folder)

    def _keep(self) -> None:
        mine = [] if self.account is None else [self.account]
        with contextlib.suppress(OSError):  # a full disk ends no run for this
            keep(self._folder, [*self._earlier, *mine])


def _sum(a: Totals, b: Totals) -> Totals:
    money = None
    if a.money is not None and b.money is not None:
        money = replace(b.money, amount=a.money.amount + b.money.amount)
    return Totals(
        a.wall_s + b.wall_s,
        a.cpu_hours + b.cpu_hours,
        a.gpu_hours + b.gpu_hours,
        a.disk_bytes + b.disk_bytes,
        money,
    )
