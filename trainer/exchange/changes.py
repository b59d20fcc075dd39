"""How is a trained model measured or sampled otherwise than it was? Overrides of its evaluation alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from trainer.errors import InputError, Problem
from trainer.trial import TrialSpec
from trainer.yaml.keys import split
from trainer.yaml.overrides import Layered, Origin, read_option
from trainer.yaml.source import Source


def remeasured(trial: TrialSpec, overrides: Sequence[str]) -> TrialSpec:
    """The trial with `evaluation.path=value` texts applied; InputError says what is wrong with which.

    Whatever else a trial is was decided when it was trained.
    """
    tree = Layered(
        trial.model_dump(mode="json"), Origin(Source("the trained model", None), ()), TrialSpec
    )
    problems: list[Problem] = []
    for text in overrides:
        path, value = read_option(text)
        keys = split(path)
        if keys[0] != "evaluation":
            message = "a trained model stays as it was trained: only `evaluation.*` can be changed"
            problems.append(Problem(value.file, None, path, message))
            continue
        problems += tree.merge(keys, value.data, Origin(value, keys)).problems
    if problems:
        raise InputError(problems)
    changed = cast(TrialSpec, tree.model_or_raise())
    return trial.model_copy(update={"evaluation": changed.evaluation})
