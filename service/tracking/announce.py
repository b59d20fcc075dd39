"""Which runs will MLflow show for an experiment? sweep > cells > trials, with params and tags."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.verdict.evidence import rung_twin
from service.search.study import tuned_by
from service.tracking import notes, view
from service.tracking.cells import cell_key
from service.tracking.keys import PROTOCOL_OF, TUNED_BY, sweep_key, trial_run_key
from service.tracking.outbox import Outbox
from service.tracking.rows import RunHeader

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from trainer.report import Result


def trial_runs(experiment: Experiment) -> list[tuple[PlannedTrial, str]]:
    """Every planned trial with the key of its run.

    Two cells that come to the same trial share its training, not its run.
    """
    seen: dict[str, int] = {}
    runs = []
    for trial in experiment.trials:
        times = seen.get(trial.key, 0)
        seen[trial.key] = times + 1
        runs.append((trial, trial_run_key(trial.key) + (f":{times}" if times else "")))
    return runs


def cell_runs(experiment: Experiment) -> dict[str, str]:
    """Every cell with the key of its run."""
    keys: dict[str, list[str]] = {cell.name: [] for cell in experiment.cells}
    for trial in experiment.trials:
        keys[trial.cell].append(trial.key)
    return {cell: cell_key(cell, trial_keys) for cell, trial_keys in keys.items()}


def announce(
    outbox: Outbox,
    experiment: Experiment,
    trials: Sequence[tuple[PlannedTrial, str]],
    cells: Mapping[str, str],
) -> None:
    """Open all runs of the experiment in the outbox. Repeating it changes nothing."""
    sweep, told = announce_sweep(outbox, experiment), told_apart(experiment)
    for cell in experiment.cells:
        tags = {"cell": cell.name, "seeds": ",".join(map(str, experiment.seeds))}
        header = RunHeader(cells[cell.name], "cell", cell.name, sweep, told[cell.name], tags)
        outbox.open_run(header)
        outbox.note(cells[cell.name], notes.of_cell(experiment, cell))
    tuned = tuned_by(experiment)
    for trial, run in trials:
        tags = {TUNED_BY: tuned[trial.cell]} if tuned else {}
        announce_trial(outbox, trial, run, cells[trial.cell], told[trial.cell], tags)


def announce_sweep(outbox: Outbox, experiment: Experiment) -> str:
    """Open the experiment's sweep run, and return its key."""
    now, sweep = int(time.time() * 1000), sweep_key(experiment.name)
    outbox.open_run(RunHeader(sweep, "sweep", experiment.name))
    outbox.note(sweep, notes.of_sweep(experiment))
    outbox.describe(view.TAG, view.saved_view(experiment.metric))
    resolved = json.dumps(experiment.resolved(), indent=1).encode()
    outbox.file(sweep, "spec/experiment.json", resolved, now)
    outbox.file(sweep, "spec/experiment.yaml", experiment.text.encode(), now)
    return sweep


def announce_trial(
    outbox: Outbox,
    trial: PlannedTrial,
    run: str,
    parent: str,
    told: Mapping[str, str],
    tags: Mapping[str, str] | None = None,
) -> None:
    """Open one trial's run below that of its cell, with what tells it from others, and further `tags`."""
    own = {
        "trial_key": trial.key,
        "cell": trial.cell,
        "seed": str(trial.seed),
        "spec_digest": trial.spec.digest(),
        **(tags or {}),
    }
    seed = f"seed {trial.seed}"  # before what is long; of a candidate it tells nothing
    name = f"{trial.cell} {seed}" if "candidate" in own else f"{seed}: {trial.cell}"
    params = {**told, "seed": str(trial.seed)}
    outbox.open_run(RunHeader(run, "trial", name, parent, params, own))
    outbox.note(run, notes.OF_TRIAL)
    spec = trial.spec.model_dump_json(indent=1).encode()
    outbox.file(run, "spec/trial.json", spec, int(time.time() * 1000))


def result_tags(result: Result, metric: str) -> dict[str, str]:
    """What a finished trial's run says of itself, in an experiment that is decided by this metric."""
    return {
        "protocol": result.protocol.get(metric, ""),
        "protocol_rung": result.protocol.get(rung_twin(metric), ""),
        "reason": result.reason or "",
        "parameters": str(result.parameters),
        **({"microbatch": str(result.microbatch)} if result.microbatch else {}),
        **{f"{PROTOCOL_OF}{name}": one for name, one in result.protocol.items()},
    }


def told_apart(experiment: Experiment) -> dict[str, dict[str, str]]:
    """Of every cell, the settings in which cells differ, as params: the baseline has them as well.

    The rest is the same everywhere, and in the artifact `spec/trial.json`; a hundred params hide the ten that matter.
    """
    settings = {
        cell.name: flat_params(cell.with_seed(0).model_dump(mode="json"))
        for cell in experiment.cells
    }
    every = {path for own in settings.values() for path in own}
    differ = {p for p in every if len({own.get(p) for own in settings.values()}) > 1}
    return {
        cell: {path: own[path] for path in sorted(differ & own.keys())}
        for cell, own in settings.items()
    }


def flat_params(value: Any, prefix: str = "") -> dict[str, str]:
    """A nested spec as MLflow params: dotted names, plain text, cut where MLflow would refuse."""
    if isinstance(value, Mapping) and value:
        pairs = [flat_params(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()]
        return {name: text for pair in pairs for name, text in pair.items()}
    return {prefix: str(value)[:6000]}


def commit(folder: Path | None = None) -> dict[str, str]:
    """The commit of the code that runs, as a tag, if it is a checkout; `-dirty` when it was changed since.

    For the runs that this code trains: what was finished before keeps the commit that trained it.
    """
    here = folder or Path(__file__).resolve().parent
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        if not _git(here, "ls-files", "."):  # installed inside a checkout of something else
            return {}
        return {"git_sha": _git(here, *describe)}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
