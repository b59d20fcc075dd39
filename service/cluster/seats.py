"""How many jobs does Tune get, which one is next, and with how many workers? What has room decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from service.resources import Capacity, Resources

if TYPE_CHECKING:
    from service.cluster.connect import Cluster
    from service.dispatch import Dispatch
    from service.experiment import Experiment, PlannedTrial
    from service.worker import Job

_PATIENCE_S = 10.0
"""How long an elastic trial waits for what others hold before it is asked for with fewer workers."""


class Seats:
    """The jobs that Tune holds, by its own ids, and how many more it may get."""

    def __init__(
        self, dispatch: Dispatch, experiment: Experiment, cluster: Cluster, most: int | None
    ) -> None:
        """At most so many, whatever the cluster holds."""
        self.dispatch, self.cluster, self._most = dispatch, cluster, most
        self._least = experiment.least_shapes
        self.is_elastic = any(cell.asked.is_elastic for cell in experiment.cells)
        self._is_uniform = len(experiment.shapes) == 1 and not self.is_elastic
        self.taken: dict[str, str] = {}
        """Tune's id of a trial to the key of ours."""
        self._bounds: dict[str, int] = {}
        """By key: so many workers were found to fit, when it waited for more."""
        self._withdrawn: set[str] = set()
        self._waits: str | None = None
        """Key of the most urgent trial, while there is no room for it."""
        self._is_kept = False
        """Whether what becomes free is kept for it."""

    def next(self, tune_id: str) -> Job | None:
        """The next job, if there is room for one."""
        if self._most is not None and len(self.taken) >= self._most:
            return None
        job = self._next()
        if job is not None:
            self.taken[tune_id] = job.key
        return job

    def started(self, tune_id: str) -> str:
        """The key of a job that got its actor."""
        key = self.taken[tune_id]
        self._bounds.pop(key, None)
        return key

    def release(self, tune_id: str) -> str | None:
        """The key of a job that is over; None for one that was taken back, to be handed out again."""
        key, self._is_kept = self.taken.pop(tune_id), True
        if tune_id not in self._withdrawn:
            return key
        self._withdrawn.discard(tune_id)
        self.dispatch.withdrawn(key)
        return None

    def _next(self) -> Job | None:
        if self._is_uniform and self.dispatch.agenda.foreseen:
            return self.dispatch.next()  # Ray itself may choose when each begins
        room, now = Capacity(*self.cluster.size()), self._occupied()
        if not now or any(room.holds([*now, shape]) for shape in self._least):
            job = self.dispatch.next(partial(self._granted, room, now))
            if job is not None:
                return job
        if self.cluster.is_private or not room.holds(now):
            return None  # what is wanted may change until there is room: do not decide early
        return self.dispatch.next(lambda trial, _: trial.choices[0])  # for an autoscaler to see

    def _granted(
        self, room: Capacity, now: Sequence[Resources], trial: PlannedTrial, is_first: bool
    ) -> Resources | None:
        """Smaller trials fill what is free when a larger one begins to wait; what becomes free later is its own."""
        bound = self._bounds.get(trial.key, math.inf)
        fits = [c for c in trial.choices if c.workers <= bound and room.holds([*now, c])]
        given = fits[-1] if fits else None if now else trial.choices[0]
        if is_first and given is None and self._waits != trial.key:
            self._waits, self._is_kept = trial.key, False
        return given if is_first or not self._is_kept else None

    def take_back(self, tune_id: str, waited_s: float) -> bool:
        """Whether a job is taken back that waits, since fewer workers than it waits for have room now, or more."""
        key = self.taken.get(tune_id)
        if key is None:
            return False
        room, others = Capacity(*self.cluster.size()), self._occupied(but=key)
        fits = [one for one in self.dispatch.choices(key) if room.holds([*others, one])]
        if waited_s >= _PATIENCE_S and not self.cluster.is_private:  # who else holds something?
            free = Capacity(*self.cluster.free())
            fits = [one for one in fits if free.holds([one])]
        had = self.dispatch.occupied(key).workers
        most = fits[-1].workers if fits else had
        if most == had or (most > had and key in self._bounds):
            return False
        if most < had:
            self._bounds[key] = most
        self._withdrawn.add(tune_id)
        return True

    def _occupied(self, but: str | None = None) -> list[Resources]:
        return [self.dispatch.occupied(key) for key in self.taken.values() if key != but]
