"""What does a trial take? Those that ended tell, otherwise a machine is timed."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.planning.calibration import shape
from service.planning.speed import Speed
from service.planning.starting import Starting, starting
from service.resources import Capacity, Resources
from trainer.record import Record
from trainer.report import Result, Status

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.planning.calibration import Bench
    from service.settings import Settings
    from trainer.ema import EMA

_BYTES_PER_PARAMETER = 16
"""Weights, their average and two moments of the optimizer, in float32; every further average is four more."""
_REPORT_BYTES = 20_000


@dataclass(frozen=True)
class TrialPlan:
    """One trial of the plan; seconds are predicted wall seconds of what is left of it."""

    cell: str
    seed: int
    key: str
    status: Status
    """WAITING is new, STOPPED continues, FINISHED and DIVERGED are done."""
    done_kimg: float
    until_kimg: float
    """How far it is wanted."""
    total_kimg: float
    train_s: float
    eval_s: float
    holding_s: float = 0.0
    """How long it holds its devices beyond both: setting up, writing checkpoints."""
    resources: Resources = field(default_factory=Resources)
    """What it occupies."""

    @property
    def seconds(self) -> float:
        """What is left to do."""
        return self.train_s + self.eval_s

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**vars(self), "resources": self.resources.model_dump(mode="json")}

    @classmethod
    def of(cls, data: dict[str, Any]) -> TrialPlan:
        """Inverse of `to_dict`."""
        known = Resources.model_validate(data["resources"])
        return cls(**{**data, "status": Status(data["status"]), "resources": known})


class Costs:
    """Seconds and bytes of an experiment's trials."""

    def __init__(self, experiment: Experiment, settings: Settings, bench: Bench) -> None:
        self._experiment, self._settings, self._bench = experiment, settings, bench
        self._results = {
            trial.key: result
            for trial in experiment.trials
            if (result := Record(settings.trial(trial.key)).result()) is not None
        }
        self._finished: dict[tuple[str, Resources], list[Result]] = {}
        for trial in experiment.trials:
            result = self._results.get(trial.key)
            if result is not None and result.status == "finished":
                self._finished.setdefault(_kind(trial), []).append(result)
        self._bytes: dict[str, tuple[int, int, int]] = {}
        """By trial: of one checkpoint, of all reports and pictures, of its snapshots."""
        self._paces: dict[tuple[str, Resources], Speed] = {}
        """One calibration for all cells of equal cost."""
        self._measured = 0

    def of(self, trial: PlannedTrial, status: Status, until: int) -> TrialPlan:
        """What is left of a trial until so many images."""
        total = trial.spec.total_images()
        start = Record(self._settings.trial(trial.key)).images()
        train_s, eval_s, holding_s = 0.0, 0.0, 0.0
        if status.is_over:
            start = until = self._results[trial.key].images
        else:
            train_s, eval_s, holding_s = self._seconds(trial, start, until)
        return TrialPlan(
            trial.cell,
            trial.seed,
            trial.key,
            status,
            start / 1000,
            until / 1000,
            total / 1000,
            train_s,
            eval_s,
            holding_s,
            trial.resources.slot,
        )

    def _seconds(self, trial: PlannedTrial, start: int, until: int) -> tuple[float, float, float]:
        """Of training, of evaluation and beyond both, from one number of images to the other."""
        known, total = self._finished.get(_kind(trial)), trial.spec.total_images()
        averages = trial.spec.averages()
        if known:
            self._measured = max(self._measured, len(known))
            each = known[0].parameters * (_BYTES_PER_PARAMETER + 4 * (len(averages) - 1))
            self._weigh(trial, averages, known[0].parameters, each, _REPORT_BYTES)
            train_s = sum(result.seconds for result in known) / len(known)
            eval_s = sum(result.eval_seconds for result in known) / len(known)
            share = max(0, until - start) / total
            return share * train_s, share * eval_s, 0.0
        pace = self._pace(trial)
        self._weigh(trial, averages, pace.parameters, pace.checkpoint_bytes, pace.report_bytes)
        workers = trial.resources.workers
        whole = (*pace.seconds(trial.spec, workers, start), pace.holding(trial.spec, start))
        if until >= total:
            return whole
        further = max(until, start)
        beyond = pace.seconds(trial.spec, workers, further)
        later = pace.holding(trial.spec, further) - pace.start_s
        return whole[0] - beyond[0], whole[1] - beyond[1], whole[2] - later

    def _pace(self, trial: PlannedTrial) -> Speed:
        kind = _kind(trial)
        if kind not in self._paces:
            self._paces[kind] = self._bench.of(kind[1]).speed(trial.spec)
        return self._paces[kind]

    def _weigh(
        self,
        trial: PlannedTrial,
        averages: Sequence[EMA],
        parameters: int,
        checkpoint: int,
        report: int,
    ) -> None:
        snapshots = 4 * parameters * sum(getattr(one, "snapshots", 0) for one in averages)
        points = len(trial.spec.evaluation_points())
        self._bytes[trial.key] = checkpoint, report * points, snapshots

    def under(self, trial: PlannedTrial, original: PlannedTrial) -> tuple[float, float]:
        """Seconds that are left of a trial whose evaluation alone is another than the original's, and those beyond.

        What was timed or trained is the original's: generation takes as long per image and step.
        """
        known = Record(self._settings.trial(trial.key))
        if known.result() is not None:
            return 0.0, 0.0
        pace, workers = self._pace(original), original.resources.workers
        total = original.spec.total_images()
        timed, real = pace.seconds(original.spec, workers), self._seconds(original, 0, total)
        other = pace.scaled(original.spec.evaluation, trial.spec.evaluation)
        left = other.seconds(trial.spec, workers, known.images())
        parts = zip(left, real[:2], timed, strict=True)
        return (
            sum(part * (took / said if said else 1.0) for part, took, said in parts),
            other.holding(trial.spec, known.images()),
        )

    def starting(self) -> Starting:
        """How long Ray and each trial take to start where they are timed."""
        launcher = self._experiment.spec.launcher
        return starting(self._settings.cache, launcher, self._bench.place_id)

    def whole(self) -> list[tuple[float, Resources]]:
        """Of each cell: seconds of a trial from its beginning to its end, and what it occupies."""
        seeds = self._experiment.seeds[:1]
        firsts = [trial for trial in self._experiment.trials if trial.seed in seeds]
        return [(sum(self._seconds(t, 0, t.spec.total_images())[:2]), t.resources) for t in firsts]

    def disk_bytes(self, todo: Sequence[TrialPlan], slots: int) -> tuple[int, int]:
        """What the trials to come leave behind, and how much more of checkpoints there is while they run."""
        sizes = [self._bytes[trial.key] for trial in todo]
        extra = sum(sorted((checkpoint for checkpoint, *_ in sizes), reverse=True)[:slots])
        return sum(map(sum, sizes)), extra

    def basis(self) -> str:
        """One phrase on where the seconds come from."""
        parts = []
        if self._measured:
            parts.append(f"measured in {self._measured} finished trials of the same shape")
        if self._paces:
            machines = sorted({pace.machine or pace.device for pace in self._paces.values()})
            company = max(self._bench.of(slot).company for _, slot in self._paces)
            beside = f", {company} at once" if company > 1 else ""
            where = f"{self._bench.place} ({' and '.join(machines)})"
            parts.append(f"calibrated on {where} with the trials' own network{beside}")
            on_gpu = any(pace.device == "cuda" for pace in self._paces.values())
            if any(one.gpus for one in self._experiment.shapes) and not on_gpu:
                parts.append("there is no GPU here: ask the cluster's hardware with --address")
        return "; ".join(parts) or "everything is done"


def _kind(trial: PlannedTrial) -> tuple[str, Resources]:
    """What decides how long a trial takes."""
    return shape(trial.spec), trial.resources.slot


def wall(
    work: Iterable[tuple[float, Resources]], room: Capacity, starting: Starting, starts: bool = True
) -> float:
    """Wall seconds when each trial begins as soon as there is room for it, in order.

    `work` is seconds and what they occupy; `starts`: Ray is still to be started.
    """
    running: list[tuple[float, int, Resources]] = []
    now = end = 0.0
    for place, (seconds, one) in enumerate(work):
        while running and not room.holds([*(other for *_, other in running), one]):
            now = heapq.heappop(running)[0]
        heapq.heappush(running, (now + seconds + starting.each_s, place, one))
        end = max(end, now + seconds + starting.each_s)
    return end + starting.first_s * starts if running else 0.0
