"""How many jobs does Tune get, which one is next, and with how many workers? What has room decides."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from service.resources import Capacity, Resources
from trainer.sharing import kind, refusal
from trainer.trial import TrialSpec

if TYPE_CHECKING:
    from service.cluster.connect import Cluster
    from service.dispatch import Dispatch
    from service.experiment import Experiment, PlannedTrial
    from service.worker import Job, Message

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
        """Tune's id of a trial to the key of ours, or of the first that share its process."""
        self._open: dict[str, dict[str, str]] = {}
        """The trials that share a process and are at work, by Tune's id and their key, as they travel."""
        self._unwanted: dict[str, list[str]] = {}
        self._spec, self._is_shared = experiment.spec, experiment.spec.launcher == "ensemble"
        self._bounds: dict[str, int] = {}
        """By key: so many workers were found to fit, when it waited for more."""
        self._withdrawn: set[str] = set()
        self._waits: str | None = None
        """Key of the most urgent trial, while there is no room for it."""
        self._is_kept = False
        """Whether what becomes free is kept for it."""

    def next(self, tune_id: str) -> list[Job] | None:
        """The next job, if there is room for one, with those that share its process."""
        if self._most is not None and len(self.taken) >= self._most:
            return None
        first = self._next()
        if first is None:
            return None
        jobs = [first, *self._beside(first)]
        if self._is_shared:
            self._open[tune_id] = {job.key: job.text() for job in jobs}
        self.taken[tune_id] = first.key
        return jobs

    def started(self, tune_id: str) -> list[str]:
        """The keys of what got its actor."""
        key = self.taken[tune_id]
        self._bounds.pop(key, None)
        return list(self._open.get(tune_id, [key]))

    def keys(self, tune_id: str) -> list[str]:
        """Of the trials at work there."""
        return list(self._open[tune_id] if tune_id in self._open else [self.taken[tune_id]])

    def take(self, tune_id: str, message: Message) -> bool:
        """Take a message; returns whether Tune is to stop its trial. One of several is let go for itself."""
        if tune_id not in self._open:
            return self.dispatch.take(self.taken[tune_id], message)
        key, there = message["key"], self._open[tune_id]
        if key not in there:  # its process was lost when it had ended
            return False
        is_unwanted = self.dispatch.take(key, message)
        if is_unwanted:
            self._unwanted.setdefault(tune_id, []).append(key)
        if is_unwanted or message["event"] in ("ended", "paused", "failed"):
            del there[key]
            self.dispatch.released(key, "it ended without a result")
        return False

    def unwanted(self, tune_id: str) -> list[str]:
        """Those of several that are to be told that they end, once."""
        return self._unwanted.pop(tune_id, [])

    def left(self, tune_id: str) -> dict[str, str]:
        """What Tune passes to a process that several share, also in place of a lost one: the trials still at work."""
        if tune_id not in self._open:
            return {}
        return {"jobs": json.dumps(list(self._open[tune_id].values()))}

    def release(self, tune_id: str) -> list[str]:
        """The keys of what is over; none for one that was taken back, to be handed out again."""
        keys, key = self.keys(tune_id), self.taken.pop(tune_id)
        self._open.pop(tune_id, None)
        self._unwanted.pop(tune_id, None)
        self._is_kept = True
        if tune_id not in self._withdrawn:
            return keys
        self._withdrawn.discard(tune_id)
        self.dispatch.withdrawn(key)
        return []

    def _beside(self, first: Job) -> Iterator[Job]:
        """Those that share its process: alike, and so many that no other place stays empty."""
        spec = TrialSpec.model_validate_json(first.trial)
        if not self._is_shared or refusal(spec) is not None:
            return
        shape, like = self.dispatch.occupied(first.key), kind(spec)
        places = min(shape.at_once(*self.cluster.size()), self._most or math.inf)
        free = max(1, places - len(self.taken))
        waiting = 1 + self.dispatch.waiting

        def granted(trial: PlannedTrial, _: bool) -> Resources | None:
            is_alike = refusal(trial.spec) is None and kind(trial.spec) == like
            return shape if is_alike and trial.resources == shape else None

        for _ in range(self._spec.shared_by(waiting, free) - 1):
            if (job := self.dispatch.next(granted)) is None:
                return
            yield job

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
