"""`submit`, `status`, `logs`, `stop`, `doctor`: experiments on a Ray cluster, and is all in order?"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from dashboards.text import duration
from service.commands.common import (
    AsJson,
    Home,
    Overrides,
    YamlFile,
    print_findings,
    print_json,
    print_table,
    say,
    settings_of,
)
from service.commands.completing import jobs

if TYPE_CHECKING:
    from service.submit import Jobs, Submission

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard, as in head:8265 [RAY_API_SERVER_ADDRESS, else this machine's].",
    ),
]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="As `status` lists it, or the experiment's name.",
        autocompletion=jobs,
    ),
]
_SET_THERE = "set it where `ray start` runs, or give it with --env"
_SHOWN = 20
"""Ended jobs that `status` lists."""


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
    from service.experiment import Experiment
    from service.staging import stays

    variables = _variables(env or [])
    experiment = Experiment.from_yaml(file, override or ())
    jobs = _jobs(address)
    job = jobs.submit(experiment, settings_of(), variables)
    if as_json:
        print_json(job.to_dict())
        return
    say(f"{job.id} is {job.status} on {jobs.address}")
    print_findings(
        [
            f"{name} stays here, for Ray logs what a job is given: {_SET_THERE}"
            for name in stays(variables)
        ]
    )
    say(f"watch it: {jobs.command('logs', '-f', job.id)}")
    say(f"end it:   {jobs.command('stop', job.id)}")
    if follow:
        _follow(jobs, job.id)


def status(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="Only this one, or an experiment's newest.",
            autocompletion=jobs,
        ),
    ] = None,
    address: Address = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that have ended too, not the newest 20.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the experiments of a cluster, the newest first, with how far their trials are."""
    jobs = _jobs(address)
    known = [jobs.find(job)] if job else jobs.list()
    over = [one for one in known if one.is_over]
    left_out = [] if every else over[_SHOWN:]
    known = jobs.with_progress([one for one in known if one not in left_out])
    if as_json:
        print_json([one.to_dict() for one in known])
        return
    if not known:
        say(
            f"{jobs.address} has no diffsweep jobs; send one with `{jobs.command('submit', 'FILE')}`"
        )
        return
    columns = ["job", "experiment", "status", "trials", "time", "left"]
    rows = [[one.id, one.experiment, one.status, *_how_far(one)] for one in known]
    if all(one.id.startswith(f"{one.experiment}-") for one in known):  # the name says it
        columns.remove("experiment")
        rows = [[row[0], *row[2:]] for row in rows]
    print_table(columns, rows)
    for one in known:
        if one.message:
            why = f"; {jobs.command('logs', one.id)}" if one.is_over else ""
            say(f"{one.id}: {one.message}{why}")
    if left_out:
        say(f"{len(left_out)} older ones: {jobs.command('status', '--all')}")


def _how_far(job: Submission) -> tuple[str, str, str]:
    """Its trials, its time, and what is left of it."""
    known = job.progress
    if known is None:
        return "", _age(job), ""
    if job.is_over and known.running:  # it was cut off
        known = replace(known, running=0)
    left = "" if job.is_over or known.left_s is None else f"about {duration(known.left_s)}"
    return known.counts(), _age(job), left


def logs(
    job: JobId,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a job has printed; of one that failed, what went wrong comes first."""
    from service.job_log import what_failed
    from trainer.errors import UserError

    if follow and as_json:
        raise UserError("--follow prints what comes as it comes, --json all at once: choose one")
    jobs = _jobs(address)
    found = jobs.find(job)
    if follow:
        _follow(jobs, found.id)
        return
    text = jobs.logs(found.id)
    error = what_failed(text) if found.status == "FAILED" else None
    if as_json:
        print_json({"id": found.id, "status": found.status, "error": error, "log": text})
        return
    if error is not None:
        say(f"{found.id} failed: {error}\n")
    print(text, end="")


def stop(job: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """End a job cleanly: its trials keep their checkpoints, submitting it again continues."""
    jobs = _jobs(address)
    job_id = jobs.find(job).id
    is_asked = jobs.stop(job_id)
    if as_json:
        print_json({"id": job_id, "asked": is_asked})
        return
    say(f"{job_id} is asked to end" if is_asked else f"{job_id} had ended already")


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
    from service.address import address_of
    from service.submit import Jobs

    settings = settings_of()
    return Jobs(address_of(settings, address), found_as=address_of(settings))


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


def _age(job: Submission) -> str:
    if job.started_ms is None:
        return ""
    end = job.ended_ms or int(time.time() * 1000)
    return duration((end - job.started_ms) / 1000)
