"""What does `-o path=value` change: the experiment's document, or the trial that all cells start from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.experiment.spec import ExperimentSpec
from trainer.errors import InputError, Problem, closest, listing
from trainer.trial import TrialSpec
from trainer.yaml.keys import Keys, split
from trainer.yaml.overrides import Layered, Origin, read_option
from trainer.yaml.spec_paths import child, elsewhere

_OF_PATHS = ("set", "arms", "axes", "zip")
"""Parts of an experiment whose keys are names or dotted paths themselves."""
_SPACE = ("search", "space")
"""Here, too."""


@dataclass(frozen=True)
class Option:
    """A change of the trial that all cells start from."""

    keys: Keys
    value: Any
    origin: Origin


def apply_options(texts: Sequence[str], document: Layered, problems: list[Problem]) -> list[Option]:
    """Put those for the experiment into its document and return those for the trials; adds to `problems`."""
    for_trials = []
    for text in texts:
        try:
            path, source = read_option(text)
        except InputError as error:
            problems += error.problems
            continue
        keys = _keys(path, document.data)
        origin, first = Origin(source, keys), str(keys[0])
        if first in _OF_PATHS or (len(keys) == 3 and keys[:2] == _SPACE):
            problem = document.put(keys, source.data, origin)
            problems += [problem] if problem is not None else []
        elif first in ExperimentSpec.model_fields:
            problems += document.merge(keys, source.data, origin).problems
        elif first in TrialSpec.model_fields:
            for_trials.append(Option(keys, source.data, origin))
        else:
            problems.append(origin.problem((), _unknown(path)))
    return for_trials


def _keys(path: str, document: Any) -> Keys:
    """`arms.under.diffusion.timesteps` reaches into the arm `under`; `axes.optimizer.lr` is one axis."""
    if path.startswith(searched := f"{'.'.join(_SPACE)}."):
        return (*_SPACE, path.removeprefix(searched))
    first, _, rest = path.partition(".")
    if not rest or first not in _OF_PATHS:
        return split(path)
    if first in ("arms", "set"):
        return (first, *_as_written(child(document, first), rest))
    return (first, rest)


def _as_written(written: Any, path: str) -> Keys:
    """The keys that lead to `path` as the YAML writes it: nested, dotted, or not there yet."""
    mappings = {key for key in written if isinstance(written[key], dict)} if written else set()
    above = max((key for key in mappings if path.startswith(f"{key}.")), key=len, default=None)
    if above is None:
        return (path,)
    return (above, *_as_written(written[above], path.removeprefix(f"{above}.")))


def _unknown(path: str) -> str:
    """Which option was meant."""
    name = path.split(".")[-1]
    homes = elsewhere(TrialSpec, name)
    if homes and "." not in path:
        return f"there is no `{path}`, did you mean `{homes[0]}`?"
    known = [*TrialSpec.model_fields, *ExperimentSpec.model_fields]
    first, _, rest = path.partition(".")
    near = closest(first, known)
    if near is not None:
        return f"there is no `{first}`, did you mean `{near}{'.' + rest if rest else ''}`?"
    return f"there is no `{first}`; known: {listing(known)}"
