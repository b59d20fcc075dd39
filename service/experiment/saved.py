"""What does an experiment's directory keep of it? `experiment.json`: everything it means, and its trials' keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.experiment.cell import Cell
from service.experiment.experiment import Experiment
from service.experiment.spec import ExperimentSpec
from service.resources import Asked
from service.settings import load as load_settings
from trainer.errors import InputError, Problem, suggestion
from trainer.files import write_whole
from trainer.trial import TrialSpec
from trainer.yaml.files import display

SAVED = "experiment.json"
"""In the experiment's directory: what was run last."""
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What a file raises that is cut off, or has other keys and values than were written."""
_KEPT = (
    "name",
    "seeds",
    "budget",
    "compare",
    "search",
    "policy",
    "launcher",
    "together",
    "resources",
    "controls",
)


def save(experiment: Experiment, directory: Path) -> None:
    """Write `experiment.json`; the trials' keys are part of it, so this reads the data sets."""
    trials = [{"cell": t.cell, "seed": t.seed, "key": t.key} for t in experiment.trials]
    content = json.dumps({**experiment.resolved(), "trials": trials}, indent=1)
    write_whole(directory / SAVED, content)


def restore(saved: Mapping[str, Any]) -> Experiment:
    """An experiment that was run before, from what `save` wrote; no file of it is needed."""
    spec = ExperimentSpec.saved({key: saved[key] for key in _KEPT if key in saved} | {"base": {}})
    cells = {
        name: Cell(
            name,
            dict(cell["overrides"]),
            TrialSpec.saved(cell["trial"]),
            Asked.saved(cell["resources"]) if "resources" in cell else spec.resources,
            cell.get("share", 1.0),
        )
        for name, cell in saved["cells"].items()
    }
    experiment = Experiment(
        spec,
        tuple(cells.values()),
        saved["file"],
        saved["yaml"],
        Path(),
        tuple(saved["options"]),
    ).with_winners(saved.get("winners", {}))
    tuned = {cell.name: cell for cell in experiment.cells}
    trials = [
        cell.planned(cell.name, t["seed"], cell.with_seed(t["seed"]), t["key"])
        for t in saved["trials"]
        if (cell := tuned[t["cell"]])
    ]
    return replace(experiment, saved_trials=tuple(trials))


def read_saved(directory: Path) -> Experiment:
    """The experiment that was run last in a directory. OSError when there is none, InputError when it is damaged."""
    file = directory / SAVED
    try:
        return restore(json.loads(file.read_text(encoding="utf-8")))
    except _UNREADABLE:
        message = (
            "is damaged, or of a version that no longer reads: run the experiment's YAML again, "
            "which writes it anew and keeps all trials that are there"
        )
        raise InputError([Problem(display(file), None, "", message)]) from None


def read_named(name: str, home: Path | None = None) -> Experiment:
    """The experiment of that name that was run last in `home`: DIFFSWEEP_HOME, else ./runs.

    Raises InputError where there is none, or it is damaged. It holds what was run and no YAML to change.
    """
    settings = load_settings(home=home)
    try:
        return read_saved(settings.experiment(name))
    except OSError:
        known = [path.parent.name for path in settings.home.glob(f"experiments/*/{SAVED}")]
        message = f"is no experiment in {settings.place}{suggestion(name, known)}"
        raise InputError([Problem(name, None, "", message)]) from None
