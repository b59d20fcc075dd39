"""What would a run do, and what would it cost? Nothing is trained beyond a calibration of seconds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dashboards.verdict.planning import expected
from dashboards.verdict.statistics import fewest_seeds
from service.agenda import Agenda
from service.experiment import Experiment
from service.experiment.budget import Budget
from service.experiment.design_notes import design_notes
from service.planning.account import Account, Totals, accounts
from service.planning.assumed import assumed
from service.planning.budget import is_beyond_budget, within_budget
from service.planning.calibration import Bench
from service.planning.costs import Costs, TrialPlan, wall
from service.planning.memory import placed_here
from service.planning.money import Money
from service.planning.proposals import Proposals, check_unit, propose
from service.readiness import check, preparing
from service.remote.home import look_at
from service.resources import Capacity, DeviceHours, Resources
from service.search.study import to_tune, tuned
from service.settings import Settings
from trainer.lazily import torch
from trainer.machine import own_cpus
from trainer.record import Record
from trainer.report import Status
from trainer.sharing import kind, refusal
from trainer.trial import TrialSpec

_EFFECTS = (0.0, 1.0, 2.0)
"""True differences of every cell from the baseline, in standard deviations of a pair's difference."""


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
    """That it leaves behind."""
    basis: str
    """Where the prediction comes from."""
    findings: tuple[str, ...]
    disk_extra_bytes: int = 0
    """So much more is there while it runs."""
    money: Money | None = None
    """By DIFFSWEEP_PRICE."""
    budget: str | None = None
    """What the budget lets begin; None without one."""
    expected: tuple[Expected, ...] = ()
    """For seeds until decided: from no difference on."""
    preparing_s: float = 0.0
    """What extractors that are trained on the data take once, before the trials: some of their steps are timed."""
    tuning: tuple[TrialPlan, ...] = ()
    """Candidates' trials that come before; those that nobody knows yet at the setting of the YAML."""
    last_run: Account | None = None
    """What was foretold of the last run that trained something, and what it took."""
    proposals: Proposals | None = None
    """Designs for a budget that was asked about."""

    def count(self, *statuses: Status) -> int:
        """How many trials have one of these."""
        return sum(trial.status in statuses for trial in self.trials)

    @property
    def done(self) -> int:
        """How many trials have ended."""
        return self.count(Status.FINISHED, Status.DIVERGED)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        last = None if self.last_run is None else self.last_run.to_dict()
        trials = {
            name: [one.to_dict() for one in getattr(self, name)] for name in ("trials", "tuning")
        }
        return asdict(replace(self, trials=(), tuning=())) | trials | {"last_run": last}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Plan:
        """Inverse of `to_dict`."""
        told = dict(data)
        for name in ("trials", "tuning"):
            told[name] = tuple(map(TrialPlan.of, data[name]))
        told["expected"] = tuple(Expected(**one) for one in data["expected"])
        told["findings"] = tuple(data["findings"])
        told["money"] = None if data["money"] is None else Money(**data["money"])
        told["proposals"] = None if not data["proposals"] else Proposals.of(data["proposals"])
        told["last_run"] = None if data["last_run"] is None else Account.of(data["last_run"])
        return cls(**told)


def plan(
    experiment: Experiment,
    settings: Settings,
    at_once: int | None = None,
    bench: Bench | None = None,
    budget: Budget | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Look at every trial's record, ask the policy what it wants and predict what that takes.

    `at_once` overrules this machine's CPUs; `bench` is where trials are timed and run, else here; for a `budget`
    designs are proposed; `notes` are among the findings. Raises InputError for one in a unit that no trial takes.
    """
    if budget is not None:
        check_unit(experiment, budget)
    experiment = tuned(experiment, settings)
    most = at_once or settings.concurrency
    here = local_room(experiment.shapes)
    experiment = (
        experiment if bench is not None else experiment.placed(lambda cell: cell.within(here))
    )
    room = Capacity(most=most) if most is not None else here
    bench = bench or local_bench(experiment, settings, room)
    room = bench.room if bench.place_id == "cluster" else room
    slots = room.slots(*experiment.shapes)
    agenda, costs = Agenda(experiment, settings), Costs(experiment, settings, bench)
    trials, tuning, note = foreseen(experiment, settings, agenda, costs)
    compared = tuple(trial for trial in trials if not trial.status.is_over)
    todo = [*tuning, *compared]
    totals = total(experiment, settings, costs, (tuning, compared), room)
    known = accounts(settings.experiment(experiment.name))
    evaluated, worked = sum(one.eval_s for one in todo), sum(one.seconds for one in todo)
    return Plan(
        experiment=experiment.name,
        trials=trials,
        at_once=slots,
        wall_s=totals.wall_s,
        cpu_hours=totals.cpu_hours,
        gpu_hours=totals.gpu_hours,
        evaluation_share=evaluated / worked if worked else 0.0,
        disk_bytes=totals.disk_bytes,
        basis=costs.basis(),
        findings=(*notes, *experiment.findings(), *design_notes(experiment)),
        disk_extra_bytes=costs.disk_bytes(todo, slots)[1],
        money=totals.money,
        budget=note,
        expected=_expected(experiment, costs),
        preparing_s=preparing(experiment, settings) if todo else 0.0,
        tuning=tuning,
        proposals=None if budget is None else propose(experiment, settings, budget, costs, room),
        last_run=next((one for one in reversed(known) if one.actual is not None), None),
    )


def plan_here(
    experiment: Experiment,
    settings: Settings,
    at_once: int | None = None,
    budget: Budget | None = None,
) -> Plan:
    """The same, once it is clear that everything that trials need can be had here."""
    settings.prepare()
    look_at(experiment, settings)
    check(experiment, settings)
    experiment, said = assumed(tuned(experiment, settings))
    experiment, notes = placed_here(experiment, settings)
    return plan(experiment, settings, at_once, budget=budget, notes=[*said, *notes])


def local_bench(
    experiment: Experiment, settings: Settings, room: Capacity, measures: bool = True
) -> Bench:
    """This machine, with room for so much at once."""
    few = len(experiment.trials)
    room = replace(room, most=few if room.most is None else min(room.most, few))
    shape, several = experiment.shapes[0], together(experiment, settings, room)
    return Bench(experiment.data_root, settings.cache, shape, room, measures, several)


def together(
    experiment: Experiment, settings: Settings, room: Capacity
) -> Callable[[TrialSpec], int]:
    """How many trials are going to take their steps as one program with a trial: those that are alike, as far as no
    other place stays empty.
    """
    if experiment.spec.launcher != "ensemble":
        return lambda _: 1
    specs = [t.spec for t in experiment.trials if Record(settings.trial(t.key)).result() is None]
    alike = Counter(kind(one) for one in specs if refusal(one) is None)
    most = experiment.spec.shared_by(len(specs), room.slots(*experiment.shapes))
    return lambda trial: 1 if refusal(trial) else max(1, min(most, alike[kind(trial)]))


def known_bench(
    experiment: Experiment, settings: Settings, room: Capacity, is_cluster: bool
) -> Bench:
    """What was timed before, where a run trains: nothing is timed now."""
    if not is_cluster:
        return local_bench(experiment, settings, room, measures=False)
    return cluster_bench(experiment, settings, room, measures=False)


def cluster_bench(
    experiment: Experiment, settings: Settings, room: Capacity, measures: bool = True
) -> Bench:
    """The cluster that this process is connected to, with room for so much at once."""
    from service.cluster.bench import ClusterBench

    shape, several = experiment.shapes[0], together(experiment, settings, room)
    return ClusterBench(experiment.data_root, settings.cache, shape, room, measures, several)


def foreseen(
    experiment: Experiment, settings: Settings, agenda: Agenda, costs: Costs
) -> tuple[tuple[TrialPlan, ...], tuple[TrialPlan, ...], str | None]:
    """The compared trials that are done or wanted, candidates to come, and what the budget says."""
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
    return trials, tuning, note


def total(
    experiment: Experiment,
    settings: Settings,
    costs: Costs,
    parts: Sequence[Sequence[TrialPlan]],
    room: Capacity,
    starts: bool = True,
) -> Totals:
    """Of trials that are left; one part begins after the other. `starts`: Ray is still to be started."""
    start = costs.starting()
    todo = [trial for part in parts for trial in part]
    held = [[(t.seconds + t.holding_s, t.resources) for t in part] for part in parts]
    nothing = [(0.0, shape) for shape in experiment.shapes]
    return Totals.of(
        sum(wall(part, room, start, starts) for part in held),
        DeviceHours.of([*nothing, *((t.seconds, t.resources) for t in todo)]),
        costs.disk_bytes(todo, room.slots(*experiment.shapes))[0],
        settings.price,
    )


def _expected(experiment: Experiment, costs: Costs) -> tuple[Expected, ...]:
    rivals = len(experiment.cells) - 1
    if rivals == 0 or experiment.looks[-1] < fewest_seeds():
        return ()
    every = DeviceHours.of(costs.whole())
    cpu, gpu = every.cpu / len(experiment.cells), every.gpu / len(experiment.cells)
    found = [expected(experiment.looks, rivals, effect) for effect in _EFFECTS]
    return tuple(
        Expected(
            one.effect,
            one.trials,
            one.finds,
            one.trials * cpu,
            one.trials * gpu,
            is_beyond_budget(experiment, one.trials, one.trials * cpu, one.trials * gpu),
        )
        for one in found
    )


def local_room(shapes: Sequence[Resources]) -> Capacity:
    """What this machine has for trials that occupy so much; without a GPU its CPUs count."""
    asked = any(shape.gpus for shape in shapes) and torch.cuda.is_available()
    return Capacity(own_cpus(), torch.cuda.device_count() if asked else math.inf)
