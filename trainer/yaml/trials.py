"""How is one trial read from its YAML, with what a command line changes in it?"""

from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel

from trainer.errors import InputError, Problem
from trainer.presets import shipped
from trainer.yaml.keys import split
from trainer.yaml.overrides import Layered, Origin, read_option
from trainer.yaml.source import Source, read
from trainer.yaml.wording import shown


def trial_tree(
    path: Path | str,
    overrides: Iterable[str],
    model: type[BaseModel],
    note: Callable[[Problem], None] = lambda _: None,
) -> Layered:
    """The values of a trial of class `model` with their lines; InputError when the file or an option is unfit.

    `overrides` are `path=value` texts; `note` hears of what one of them sets back to its default.
    """
    source = read(path if Path(path).exists() else shipped(str(path)) or path)
    if not isinstance(source.data, dict) or "base" in source.data:
        raise InputError([_no_trial(source)])
    tree = Layered(source.data, Origin(source, ()), model)
    problems: list[Problem] = []
    for text in overrides:
        where, value = read_option(text)
        keys = split(where)
        merged = tree.merge(keys, value.data, Origin(value, keys))
        problems += merged.problems
        for reset in merged.resets:
            note(reset)
    if problems:
        raise InputError(problems)
    return tree


def _no_trial(source: Source) -> Problem:
    needed = "a trial needs data, model, train and evaluation"
    if source.data is None:
        return Problem(source.file, None, "", f"is empty: {needed}")
    if isinstance(source.data, dict):
        message = "is an experiment, this command takes one trial: use `diffsweep run`"
        return Problem(source.file, None, "", message)
    return source.problem((), f"a trial is a mapping, this is {shown(source.data)}: {needed}")
