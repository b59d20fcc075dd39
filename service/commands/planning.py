"""`plan`: what a run would do and cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dashboards.text import chance, duration
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
    width,
)
from service.commands.sweeps import opening
from trainer.report import Status

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.experiment.budget import Budget
    from service.planning.costs import TrialPlan
    from service.planning.plan import Plan
    from service.planning.proposals import Proposals
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
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="HOURS",
            help="Propose designs that cost at most so much, as in 40gpuh or 200cpuh.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run would do and cost, after a calibration of a few seconds: here, or on a cluster."""
    from service.command_line import continuation
    from service.experiment import Experiment
    from service.experiment.budget import Budget
    from service.experiment.data_sets import data_lines
    from service.experiment.occupying import shapes_lines
    from service.planning.plan import plan_here
    from service.remote.home import look_around

    limit = None if budget is None else Budget.of(budget)
    settings = settings_of(home)
    look_around(settings)
    experiment = Experiment.from_yaml(file, override or (), home=settings.home)
    if address is None:
        planned = plan_here(experiment, settings, at_once, limit)
        run: Callable[..., str] = partial(continuation, experiment.file, settings=settings)
    else:
        planned, run = _there(experiment, settings, at_once, address, limit)
    if as_json:
        print_json(planned.to_dict())
        return
    prose(opening(experiment))
    for line in data_lines(experiment.cells, experiment.outlines):
        if not line.startswith(" "):  # the remarks are validate's
            say(line)
    say()
    _trials(experiment, planned)
    say()
    for line in shapes_lines(experiment.cells):
        prose(line)
    _costs(planned)
    _expected(planned)
    print_findings([*filter(None, [planned.budget]), *planned.findings])
    if planned.last_run is not None:
        prose(f"last run: {planned.last_run.text()}")
    if planned.proposals is not None:
        _proposed(planned.proposals)
    best = None if planned.proposals is None else planned.proposals.recommended
    more = () if best is None else best.options
    replaced = {option.partition("=")[0] for option in more}
    kept = [one for one in experiment.options if one.partition("=")[0].strip() not in replaced]
    say(f"To run {'what is recommended' if more else 'it'}: {run(options=[*kept, *more])}")


def _there(
    experiment: Experiment,
    settings: Settings,
    at_once: int | None,
    address: str,
    budget: Budget | None,
) -> tuple[Plan, Callable[..., str]]:
    """The plan of a cluster, and what is typed to send the experiment there with these options."""
    from service.address import address_of
    from service.planning.there import plan_there
    from service.submit import Jobs

    jobs = Jobs(address_of(settings, address), found_as=address_of(settings))

    def run(options: list[str]) -> str:
        words = [word for option in options for word in ("-o", option)]
        return jobs.command("submit", experiment.file, *words)

    return plan_there(experiment, settings, jobs, at_once, budget), run


def _proposed(proposals: Proposals) -> None:
    """Designs, the recommended one marked."""
    say()
    say(f"within {proposals.budget}:")
    rows = proposals.rows
    unit = "GPU-h" if any(row.gpu_hours for row in rows) else "CPU-h"
    money = [row.money for row in rows if row.money is not None]
    cost = money[0].unit or "money" if money else None
    columns = ["", "seeds", "curve", "images", unit, *([cost] if cost else []), "time"]
    columns += ["finds", "1 SD"]
    cells = []
    for row in rows:
        hours = row.gpu_hours or row.cpu_hours
        paid = [row.money.text().removesuffix(row.money.unit).strip()] if row.money else []
        detects = "nothing" if row.detects is None else f"{row.detects:.2f} SD"
        chance_ = "" if not row.finds else chance(row.finds)
        mark = "->" if row.is_recommended else ""
        counts = [str(row.seeds), str(row.evaluations), f"{row.images:,}"]
        cells.append([mark, *counts, f"{hours:.3g}", *paid, duration(row.wall_s), detects, chance_])
    if rows:
        print_table(columns, cells, right="|".join(columns[1:]))
        prose(
            "curve: evaluations of every trial; finds: the smallest difference found in 80 %, in standard "
            "deviations of a pair's difference; 1 SD: probability to find that much"
        )
    print_findings(proposals.notes)


def _trials(experiment: Experiment, planned: Plan) -> None:
    """Every trial in a column of its seed; where those do not fit, the seeds of a cell that say the same together."""
    wanted = {trial.seed for trial in planned.trials}
    seeds = [seed for seed in experiment.seeds if seed in wanted or len(experiment.looks) == 1]
    words = {(trial.cell, trial.seed): _state(trial) for trial in planned.trials}
    rows = [
        [cell.name, *(words.get((cell.name, seed), "-") for seed in seeds)]
        for cell in experiment.cells
    ]
    columns = ["cell", *(f"seed {seed}" for seed in seeds)]
    widest = [max(map(len, column)) + 2 for column in zip(columns, *rows, strict=True)]
    if sum(widest) <= width():
        print_table(columns, rows)
        return
    together = [
        [
            name,
            word,
            _listed([seed for seed, its in zip(seeds, its_words, strict=True) if its == word]),
        ]
        for name, *its_words in rows
        for word in dict.fromkeys(its_words)
    ]
    print_table(["cell", "each", "seeds"], together)


def _listed(seeds: list[int]) -> str:
    """`0-5, 9`: runs of neighbours in one."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


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
    for one in planned.expected:
        what = f"a difference of {one.effect:g} SD of a pair" if one.effect else "no difference"
        finds = f", found with probability {chance(one.finds)}" if one.effect else ""
        finds = ", which is more than the budget" if one.is_beyond_budget else finds
        gpu = f", {one.gpu_hours:.3g} GPU-hours" if one.gpu_hours else ""
        prose(
            f"if there is {what}: about {one.trials:.0f} trials, {one.cpu_hours:.3g} CPU-hours{gpu}{finds}"
        )
