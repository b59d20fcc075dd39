"""What would a run do, and what would it cost? Nothing is trained beyond a calibration of seconds."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dashboards.verdict.planning import expected
from dashboards.verdict.statistics import fewest_seeds
from service.agenda import Agenda
from service.calibration import Speed, shape, speed
from service.experiment import Experiment, PlannedTrial
from service.experiment.design_notes import design_notes
from service.plan_budget import is_beyond_budget, within_budget
from service.readiness import preparing
from service.resources import Resources
from service.search.study import to_tune, tuned
from service.settings import Settings
from trainer.ema import EMA
from trainer.lazily import torch
from trainer.machine import own_cpus
from trainer.record import Record
from trainer.report import Result, Status

_FIRST_START_S = {"train": 12.0, "inproc": 5.0}
_START_S = {"train": 2.0, "inproc": 0.3}
"""Starting Ray, then each further trial, on two busy cores."""
_BYTES_PER_PARAMETER = 16
"""Weights, their average and two moments of the optimizer, in float32; every further average is four more."""
_PICTURE_BYTES = 20_000
_EFFECTS = (0.0, 1.0, 2.0)
"""True differences of every cell from the baseline, in standard deviations of a pair's difference."""


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

    @property
    def seconds(self) -> float:
        """What is left to do."""
        return self.train_s + self.eval_s


@dataclass(frozen=True)
class Expected:
    """What seeds until decided take in all, if every cell differs from the baseline by so much."""

    effect: float
    """In standard deviations of a pair's difference."""
    trials: float
    """Mean number."""
    finds: float
    """Probability that a cell is found to be different."""
    cpu_hours: float
    gpu_hours: float
    is_beyond_budget: bool = False


@dataclass(frozen=True)
class Plan:
    """What the policy wants, beside what is done already, and what it costs together."""

    experiment: str
    trials: tuple[TrialPlan, ...]
    at_once: int
    """Trials side by side."""
    wall_s: float
    cpu_hours: float
    gpu_hours: float
    evaluation_share: float
    """Part of the compute that goes into evaluation."""
    disk_bytes: int
    basis: str
    """Where the prediction comes from."""
    findings: tuple[str, ...]
    budget: str | None = None
    """What the budget lets begin; None without one."""
    expected: tuple[Expected, ...] = ()
    """For seeds until decided: from no difference on."""
    preparing_s: float = 0.0
    """What extractors that are trained on the data take once, before the trials: some of their steps are timed."""
    tuning: tuple[TrialPlan, ...] = ()
    """Candidates' trials that come before; those that nobody knows yet at the setting of the YAML."""

    def count(self, *statuses: Status) -> int:
        """How many trials have one of these."""
        return sum(trial.status in statuses for trial in self.trials)

    @property
    def done(self) -> int:
        """How many trials have ended."""
        return self.count(Status.FINISHED, Status.DIVERGED)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def plan(experiment: Experiment, settings: Settings, at_once: int | None = None) -> Plan:
    """Look at every trial's record, ask the policy what it wants and predict what that takes.

    `at_once` overrules this machine's CPUs.
    """
    experiment, resources = tuned(experiment, settings), experiment.spec.resources
    agenda, costs = Agenda(experiment, settings), _Costs(experiment, settings)
    until, note = within_budget(
        experiment,
        agenda,
        lambda trial, to: costs.of(trial, agenda.standing(trial.key).status, to).seconds,
    )
    trials = tuple(
        costs.of(trial, agenda.standing(trial.key).status, until.get(trial.key, 0))
        for trial in experiment.trials
        if trial.key in until or agenda.standing(trial.key).status.is_over
    )
    tuning = tuple(
        costs.of(trial, Status.WAITING, images) for trial, images in to_tune(experiment, settings)
    )
    compared = [trial for trial in trials if not trial.status.is_over]
    todo = [*tuning, *compared]
    launcher = experiment.spec.launcher
    slots = at_once or settings.concurrency or local_slots(resources)
    worked = sum(trial.seconds for trial in todo) * resources.workers / 3600
    evaluated = sum(trial.eval_s for trial in todo)
    total = sum(trial.seconds for trial in todo)
    given = experiment.trials if len(experiment.looks) == 1 else agenda.open_trials()
    pictures = sum(len(t.spec.evaluation_points()) for t in given) * _PICTURE_BYTES
    return Plan(
        experiment=experiment.name,
        trials=trials,
        at_once=slots,
        wall_s=sum(
            _wall([t.seconds for t in part], slots, launcher) for part in (tuning, compared)
        ),
        cpu_hours=worked * resources.cpus,
        gpu_hours=worked * resources.gpus,
        evaluation_share=evaluated / total if total else 0.0,
        disk_bytes=costs.checkpoint_bytes(todo, slots) + pictures if todo else 0,
        basis=costs.basis(),
        findings=(*experiment.findings(), *design_notes(experiment)),
        budget=note,
        expected=_expected(experiment, costs),
        preparing_s=preparing(experiment, settings) if todo else 0.0,
        tuning=tuning,
    )


def _expected(experiment: Experiment, costs: _Costs) -> tuple[Expected, ...]:
    rivals = len(experiment.cells) - 1
    if rivals == 0 or experiment.looks[-1] < fewest_seeds():
        return ()
    resources = experiment.spec.resources
    worker_hours = costs.whole() * resources.workers / 3600
    found = [expected(experiment.looks, rivals, effect) for effect in _EFFECTS]
    return tuple(
        Expected(
            one.effect,
            one.trials,
            one.finds,
            one.trials * worker_hours * resources.cpus,
            one.trials * worker_hours * resources.gpus,
            is_beyond_budget(experiment, one.trials, one.trials * worker_hours),
        )
        for one in found
    )


def local_slots(resources: Resources) -> int:
    """How many trials this machine holds side by side, one at least; without a GPU its CPUs count."""
    asked = resources.gpus and torch.cuda.is_available()
    gpus = torch.cuda.device_count() if asked else math.inf
    return max(1, resources.at_once(own_cpus(), gpus))


class _Costs:
    """Seconds of trials: those that ended tell, otherwise this machine is calibrated."""

    def __init__(self, experiment: Experiment, settings: Settings) -> None:
        self._experiment, self._settings = experiment, settings
        self._results = {
            trial.key: result
            for trial in experiment.trials
            if (result := Record(settings.trial(trial.key)).result()) is not None
        }
        self._finished: dict[str, list[Result]] = {}
        for trial in experiment.trials:
            result = self._results.get(trial.key)
            if result is not None and result.status == "finished":
                self._finished.setdefault(shape(trial.spec), []).append(result)
        self._parameters: dict[str, int] = {}
        self._averages: dict[str, tuple[EMA, ...]] = {}
        self._paces: dict[str, Speed] = {}
        """By shape: one calibration for all cells of equal cost."""
        self._calibrated: set[str] = set()
        self._measured = 0

    def of(self, trial: PlannedTrial, status: Status, until: int) -> TrialPlan:
        """What is left of a trial until so many images."""
        total = trial.spec.total_images()
        start = Record(self._settings.trial(trial.key)).images()
        train_s, eval_s = 0.0, 0.0
        if status.is_over:
            start = until = self._results[trial.key].images
        else:
            train_s, eval_s = self._seconds(trial, start, until)
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
        )

    def _seconds(self, trial: PlannedTrial, start: int, until: int) -> tuple[float, float]:
        """Of training and of evaluation, from one number of images to the other."""
        known, total = self._finished.get(shape(trial.spec)), trial.spec.total_images()
        self._averages[trial.key] = trial.spec.averages()
        if known:
            self._measured = max(self._measured, len(known))
            self._parameters[trial.key] = known[0].parameters
            train_s = sum(result.seconds for result in known) / len(known)
            eval_s = sum(result.eval_seconds for result in known) / len(known)
            share = max(0, until - start) / total
            return share * train_s, share * eval_s
        resources = self._experiment.spec.resources
        root = self._experiment.data_root
        pace = self._paces.get(shape(trial.spec)) or speed(
            trial.spec, root, self._settings.cache, resources.cpus, resources.gpus
        )
        self._paces[shape(trial.spec)] = pace
        self._calibrated.add(pace.device)
        self._parameters[trial.key] = pace.parameters
        whole = pace.seconds(trial.spec, resources.workers, start)
        beyond = pace.seconds(trial.spec, resources.workers, max(until, start))
        if until >= total:
            return whole
        return whole[0] - beyond[0], whole[1] - beyond[1]

    def whole(self) -> float:
        """Seconds of a trial from its beginning to its end, over the cells."""
        seeds = self._experiment.seeds[:1]
        firsts = [trial for trial in self._experiment.trials if trial.seed in seeds]
        every = [sum(self._seconds(t, 0, t.spec.total_images())) for t in firsts]
        return sum(every) / len(every)

    def checkpoint_bytes(self, todo: Sequence[TrialPlan], slots: int) -> int:
        """The last checkpoints of all trials to come, one more of each that runs beside others, and snapshots."""
        sizes, snapshots = [], 0
        for trial in todo:
            parameters, averages = self._parameters[trial.key], self._averages[trial.key]
            sizes.append(parameters * (_BYTES_PER_PARAMETER + 4 * (len(averages) - 1)))
            snapshots += 4 * parameters * sum(getattr(one, "snapshots", 0) for one in averages)
        return sum(sizes) + sum(sorted(sizes, reverse=True)[:slots]) + snapshots

    def basis(self) -> str:
        """One phrase on where the seconds come from."""
        parts = []
        if self._measured:
            parts.append(f"measured in {self._measured} finished trials of the same shape")
        if self._calibrated:
            where = " and ".join(sorted(self._calibrated))
            parts.append(f"calibrated on this machine's {where} with the trials' own network")
            if self._experiment.spec.resources.gpus and "cuda" not in self._calibrated:
                parts.append("there is no GPU here: on the cluster's it will be faster")
        return "; ".join(parts) or "everything is done"


def _wall(seconds: Sequence[float], slots: int, launcher: str) -> float:
    """Wall seconds when each trial takes the first free slot, in order."""
    if not seconds:
        return 0.0
    free = [0.0] * min(slots, len(seconds))
    for each in seconds:
        heapq.heapreplace(free, free[0] + each + _START_S[launcher])
    return max(free) + _FIRST_START_S[launcher]
