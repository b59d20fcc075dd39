"""What was handed over in place of an experiment? Recognized, with what to do about it."""

from __future__ import annotations

from typing import Any

from service.experiment.spec import ExperimentSpec
from trainer.errors import Problem
from trainer.trial import TrialSpec
from trainer.yaml.source import Source
from trainer.yaml.wording import shown


def no_experiment(source: Source) -> Problem:
    """For a document that is no mapping."""
    if source.data is None:
        return Problem(source.file, None, "", "is empty: an experiment needs `name:` and `base:`")
    message = f"an experiment is a mapping that begins with `name:`, this is {shown(source.data)}"
    return source.problem((), message)


def a_trial(file: str) -> Problem:
    """For a trial where an experiment is expected."""
    message = (
        f"is a trial, this command takes an experiment: train it alone with `python -m trainer {file}`, or make "
        f"it an experiment, a YAML with `name: mine`, `base: {file}`, `seeds: 6` and `arms:` or `axes:`"
    )
    return Problem(file, None, "", message)


def is_trial(data: dict[str, Any]) -> bool:
    """Whether most of a document is what a trial says and an experiment does not."""
    if "base" in data:
        return False
    of_trial = TrialSpec.model_fields.keys() - ExperimentSpec.model_fields.keys()
    return len(of_trial & data.keys()) >= 2
