"""`submit`, `status`, `logs`, `stop`, `sync`, `doctor`: experiments on a Ray cluster, and is all in order?"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dashboards.text import duration
from service.commands.common import (
    AsJson,
    Home,
    Overrides,
    YamlFile,
    print_json,
    print_table,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from service.submit import Jobs, Submission

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard [RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265].",
    ),
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="As `diffsweep status` lists it.")]


def submit(
    file: YamlFile,
    override: Overrides = None,
    address: Address = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="Variable for the job. Repeatable."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print its output until it ends.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send an experiment and this code to a Ray cluster; the same experiment again continues there."""
    from service.command_line import diffsweep
    from service.experiment import Experiment

    variables = _variables(env or [])
    experiment = Experiment.from_yaml(file, override or ())
    jobs = _jobs(address)
    job = jobs.submit(experiment, settings_of(), variables)
    if as_json:
        print_json(asdict(job))
        return
    say(f"{job.id} is {job.status} on {jobs.address}")
    if follow:
        _follow(jobs, job.id)
    where = ("--address", address) if address else ()
    watch, end = diffsweep("logs", "-f", job.id, *where), diffsweep("stop", job.id, *where)
    say(f"watch it: {watch}    end it: {end}")


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only this one.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """List the experiments of a cluster, the newest first."""
    from service.command_line import diffsweep

    jobs = _jobs(address)
    known = [jobs.status(job)] if job else jobs.list()
    if as_json:
        print_json([asdict(one) for one in known])
        return
    if not known:
        say(f"{jobs.address} has no diffsweep jobs; send one with `{diffsweep('submit')} FILE`")
        return
    rows = [[one.id, one.experiment, one.status, _age(one), one.message] for one in known]
    print_table(("job", "experiment", "status", "time", "message"), rows)


def logs(
    job: JobId,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it ends.")] = False,
) -> None:
    """Print what a job has printed."""
    jobs = _jobs(address)
    if follow:
        _follow(jobs, job)
    else:
        print(jobs.logs(job), end="")


def stop(job: JobId, address: Address = None) -> None:
    """End a job cleanly: its trials keep their checkpoints, submitting it again continues."""
    jobs = _jobs(address)
    ended = jobs.stop(job)
    say(f"{job} is asked to end" if ended else f"{job} had ended already")


def sync(
    experiment: Annotated[
        str | None, typer.Argument(metavar="[EXPERIMENT]", help="Name; all of them if left out.")
    ] = None,
    home: Home = None,
) -> None:
    """Deliver to MLflow what waited while the server was out of reach. Repeating it changes nothing."""
    from service.tracking.delivery import sync as deliver

    settings = settings_of(home)
    names = [experiment] if experiment else _with_outbox(settings.home / "experiments")
    if not names:
        say(f"{settings.home} holds no experiments")
    left = 0
    for name in names:
        delivery = deliver(settings, name)
        left += delivery.left
        say(
            f"{name}: {'all delivered' if not delivery.left else f'{delivery.left} records still wait'}"
        )
        for problem in delivery.problems:
            say(f"  the server refused: {problem}")
    if left:
        raise typer.Exit(1)


def doctor(home: Home = None, as_json: AsJson = False) -> None:
    """Check the installation, the disk, the tracking server and the cluster; exit code 3 if one is not fit."""
    from service.doctor import examine

    checks = examine(settings_of(home))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            say(f"{'ok  ' if check.ok else 'BAD '} {check.name}: {check.detail}")
            if not check.ok:
                say(f"      to fix it: {check.fix}")
    if not all(check.ok for check in checks):
        raise typer.Exit(3)


def _jobs(address: str | None) -> Jobs:
    from service.submit import Jobs, address_of

    return Jobs(address_of(settings_of(), address))


def _follow(jobs: Jobs, job: str) -> None:
    for text in jobs.follow(job):
        print(text, end="", flush=True)
    ended = jobs.status(job)
    say(f"{job}: {ended.status}")
    if ended.status != "SUCCEEDED":
        raise typer.Exit(1)


def _variables(given: list[str]) -> dict[str, str]:
    from trainer.errors import InputError, Problem

    wrong = [text for text in given if "=" not in text[1:]]
    if wrong:
        raise InputError(
            [Problem(f"--env {text}", None, "", "write a variable as NAME=VALUE") for text in wrong]
        )
    return {name: value for name, _, value in (text.partition("=") for text in given)}


def _with_outbox(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/outbox.db"))


def _age(job: Submission) -> str:
    if job.started_ms is None:
        return ""
    end = job.ended_ms or int(time.time() * 1000)
    return duration((end - job.started_ms) / 1000)
