"""`plan`: what a run would do and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dashboards.text import duration
from service.commands.common import (
    AsJson,
    AtOnce,
    Home,
    Overrides,
    YamlFile,
    print_findings,
    print_json,
    print_table,
    prose,
    say,
    settings_of,
)
from service.commands.sweeps import opening
from trainer.report import Status

if TYPE_CHECKING:
    from service.costs import TrialPlan
    from service.experiment import Experiment
    from service.plan import Plan
    from service.settings import Settings


def plan(
    file: YamlFile,
    override: Overrides = None,
    home: Home = None,
    at_once: AtOnce = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="URL",
            help="Time a worker of this cluster instead of this machine, as in head:8265.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run would do and cost, after a calibration of a few seconds: here, or on a cluster."""
    from service.command_line import continuation
    from service.experiment import Experiment
    from service.experiment.data_sets import data_lines
    from service.remote.home import look_around

    settings = settings_of(home)
    look_around(settings)
    experiment = Experiment.from_yaml(file, override or (), home=settings.home)
    if address is None:
        planned = _here(experiment, settings, at_once)
        run = continuation(experiment.file, experiment.options, settings)
    else:
        planned, run = _there(experiment, settings, at_once, address)
    if as_json:
        print_json(planned.to_dict())
        return
    prose(opening(experiment))
    for line in data_lines(experiment.cells, experiment.outlines):
        if not line.startswith(" "):  # the remarks are validate's
            say(line)
    say()
    wanted = {trial.seed for trial in planned.trials}
    seeds = [seed for seed in experiment.seeds if seed in wanted or len(experiment.looks) == 1]
    print_table(("cell", *(f"seed {seed}" for seed in seeds)), _states(experiment, seeds, planned))
    say()
    _costs(planned)
    _expected(planned)
    print_findings([*filter(None, [planned.budget]), *planned.findings])
    if planned.last_run is not None:
        prose(f"last run: {planned.last_run.text()}")
    say(f"To run it: {run}")


def _here(experiment: Experiment, settings: Settings, at_once: int | None) -> Plan:
    from service import readiness
    from service.plan import plan as make
    from service.remote.home import look_at

    settings.prepare()
    look_at(experiment, settings)
    readiness.check(experiment, settings)
    return make(experiment, settings, at_once)


def _there(
    experiment: Experiment, settings: Settings, at_once: int | None, address: str
) -> tuple[Plan, str]:
    """The plan of a cluster, and what is typed to send the experiment there."""
    from service.address import address_of
    from service.plan_there import plan_there
    from service.submit import Jobs

    jobs = Jobs(address_of(settings, address), found_as=address_of(settings))
    options = [word for option in experiment.options for word in ("-o", option)]
    planned = plan_there(experiment, settings, jobs, at_once)
    return planned, jobs.command("submit", experiment.file, *options)


def _states(experiment: Experiment, seeds: list[int], planned: Plan) -> list[list[str]]:
    words = {(trial.cell, trial.seed): _state(trial) for trial in planned.trials}
    return [
        [cell.name, *(words.get((cell.name, seed), "-") for seed in seeds)]
        for cell in experiment.cells
    ]


def _state(trial: TrialPlan) -> str:
    if trial.status.is_over:
        return "done"
    begun = f"from {trial.done_kimg:g} kimg, " if trial.done_kimg else ""
    pauses = f"to {trial.until_kimg:g} kimg, " if trial.until_kimg < trial.total_kimg else ""
    return f"{begun}{pauses}{duration(trial.seconds)}"


def _costs(planned: Plan) -> None:
    from service.search.standing import price

    say(
        f"{planned.count(Status.WAITING)} to train, {planned.count(Status.STOPPED)} to continue, "
        f"{planned.done} done already"
    )
    if planned.tuning:
        say(price([trial.seconds for trial in planned.tuning]))
    if planned.done == len(planned.trials) and not planned.tuning:
        return
    if planned.preparing_s:
        prose(
            f"before that, once for this data: about {duration(planned.preparing_s)} to train the "
            "classifier that images are compared by (some of its steps timed here)"
        )
    prose(f"about {duration(planned.wall_s)} with {planned.at_once} at a time ({planned.basis})")
    gpu = f", {planned.gpu_hours:.3g} GPU-hours" if planned.gpu_hours else ""
    prose(
        f"{planned.cpu_hours:.3g} CPU-hours{gpu}, of which {planned.evaluation_share:.0%} evaluation; "
        f"{_disk(planned.disk_bytes)} of disk, {_disk(planned.disk_extra_bytes)} more while it runs"
    )
    if planned.money is not None:
        prose(f"{planned.money.text()} at {planned.money.rate}")


def _disk(amount: float) -> str:
    return f"{amount / 1e9:.3g} GB" if amount >= 1e9 else f"{amount / 1e6:.2g} MB"


def _expected(planned: Plan) -> None:
    """What the looks are expected to take in all, and to find."""
    from dashboards.text import chance

    for one in planned.expected:
        what = f"a difference of {one.effect:g} SD of a pair" if one.effect else "no difference"
        finds = f", found with probability {chance(one.finds)}" if one.effect else ""
        finds = ", which is more than the budget" if one.is_beyond_budget else finds
        gpu = f", {one.gpu_hours:.3g} GPU-hours" if one.gpu_hours else ""
        prose(
            f"if there is {what}: about {one.trials:.0f} trials, {one.cpu_hours:.3g} CPU-hours{gpu}{finds}"
        )
