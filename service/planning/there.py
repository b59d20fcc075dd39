"""`plan` on a cluster's own hardware: a job of seconds there, which times trials on a worker, and its plan here.

`python -m service.planning.there FILE -o PATH=VALUE` is that job; its last line is the plan, or why there is none.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shlex
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError
from service.experiment.budget import Budget
from service.planning.assumed import assumed
from service.planning.plan import Plan, cluster_bench, plan
from service.readiness import check
from service.resources import Capacity
from service.settings import load
from service.staging import check_sendable, entrypoint, staged, variables
from trainer.errors import EnvironmentProblem, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.experiment import Experiment
    from service.settings import Settings
    from service.submit import Jobs

_ANSWER = "diffsweep plan: "
_BEGINS_WITHIN_S = 120.0
"""How long a job may wait for its turn, and for its environment."""
_EVERY_S = 0.5


def plan_there(
    experiment: Experiment,
    settings: Settings,
    jobs: Jobs,
    at_once: int | None = None,
    budget: Budget | None = None,
    env: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of an experiment on the hardware of a cluster.

    Raises ServiceError where it does not answer, where no worker gets what a trial needs within half a minute, and
    with whatever the cluster objects to.
    """
    check_sendable(experiment)
    job_id = f"plan-{experiment.name}-{secrets.token_hex(4)}"
    given = dict(variables(settings, env))
    if at_once is not None or settings.concurrency is not None:
        given["DIFFSWEEP_CONCURRENCY"] = str(at_once or settings.concurrency)
    with staged(experiment) as (folder, file):
        what = ("service.planning.there",)
        line = entrypoint(file, experiment.options, jobs.python(), what)
        line += "" if budget is None else f" --budget {shlex.quote(budget.short())}"
        jobs.begin(job_id, line, folder, given, {})
    try:
        _wait(jobs, job_id)
        return _answer(jobs, job_id)
    finally:
        jobs.forget(job_id)


def _wait(jobs: Jobs, job_id: str) -> None:
    began = time.monotonic()
    while not (job := jobs.status(job_id)).is_over:
        if job.status == "PENDING" and time.monotonic() - began > _BEGINS_WITHIN_S:
            raise ServiceError(
                f"{jobs.address} has not begun to plan within {_BEGINS_WITHIN_S:.0f} s: {job.message}",
                "look at the cluster's dashboard at that address, or plan without --address",
            )
        time.sleep(_EVERY_S)


def _answer(jobs: Jobs, job_id: str) -> Plan:
    log = jobs.logs(job_id)
    lines = [line for line in log.splitlines() if line.startswith(_ANSWER)]
    if not lines:
        said = next((line for line in reversed(log.splitlines()) if line.strip()), "nothing")
        raise ServiceError(
            f"the plan on {jobs.address} broke: {said[:200]}",
            "look at the cluster's dashboard at that address, or plan without --address",
        )
    told = json.loads(lines[-1].removeprefix(_ANSWER))
    if "refused" in told:
        raise ServiceError(f"{jobs.address}: {told['refused']}", told["fix"] or "mend that first")
    return Plan.of(told)


def main(arguments: list[str]) -> int:
    """The job."""
    try:
        told = _planned(_given(arguments))
    except (UserError, ServiceError, EnvironmentProblem) as error:
        told = {"refused": str(error), "fix": ""}
        if isinstance(error, ServiceError):
            told = {"refused": error.message, "fix": error.fix}
    print(_ANSWER + json.dumps(told), flush=True)
    return 0


def _given(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("-o", action="append", default=[])
    parser.add_argument("--budget")
    return parser.parse_args(arguments)


def _planned(given: argparse.Namespace) -> dict[str, Any]:
    from service.cluster.bench import room
    from service.cluster.connect import connected
    from service.cluster.sharing import placed_there
    from service.experiment import Cell, Experiment
    from service.remote.home import look_around, look_at

    settings = load()
    look_around(settings)
    experiment, said = assumed(Experiment.from_yaml(given.file, given.o, home=settings.home))
    settings.prepare()
    look_at(experiment, settings)
    check(experiment, settings)
    with connected(settings, experiment.placed(Cell.least).shapes) as cluster:
        experiment, notes = placed_there(experiment, settings)
        experiment = experiment.placed(partial(Cell.within, room=Capacity(*cluster.size())))
        there = room(experiment.shapes, settings.concurrency)
        bench = cluster_bench(experiment, settings, there)
        budget = None if given.budget is None else Budget.of(given.budget)
        return plan(
            experiment, settings, bench=bench, budget=budget, notes=[*said, *notes]
        ).to_dict()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
