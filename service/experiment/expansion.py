"""Which cells does an experiment compare? `arms`, `axes` (cartesian) and `zip` become named sets of overrides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.yaml.keys import Keys, covers, dotted, split
from trainer.yaml.writer import yaml_text

LARGEST_SWEEP = 1000
"""More cells than this are a mistake in the axes, not an experiment."""
MOST_TRIALS = 10_000
"""More are a slip of the keyboard, or a sweep whose figures nobody reads."""
MOST_SETTINGS = 100
"""Paths that one cell changes: a trial has fewer."""

Complain = Callable[[Keys, str, bool], None]
"""Takes (where in the YAML, message, whether the key is at fault)."""


@dataclass(frozen=True)
class Setting:
    """One override of a cell, and where in the YAML it stands."""

    path: str
    value: Any
    keys: Keys

    @property
    def leaves(self) -> list[Keys]:
        """The places that it writes: a mapping without `kind` stands for what is below it."""
        return list(_leaves(split(self.path), self.value))

    @property
    def written(self) -> list[Keys]:
        """The places of which it says something, those inside a member of a family too."""
        return list(_leaves(split(self.path), self.value, inside=True))

    def hides(self, earlier: Setting) -> bool:
        """Whether it replaces something that `earlier` sets; what a member leaves to its defaults it may set."""
        return any(covers(mine, theirs) for mine in self.leaves for theirs in earlier.written)


@dataclass(frozen=True)
class Choice:
    """One arm, one value of an axis, or one row of `zip`."""

    label: str
    settings: tuple[Setting, ...]
    keys: Keys
    """Where in the YAML this choice is written."""


@dataclass(frozen=True)
class Combination:
    """One cell to be: a choice from every dimension."""

    choices: tuple[Choice, ...]

    @property
    def name(self) -> str:
        """The labels joined; `base` when nothing is varied."""
        return ",".join(choice.label for choice in self.choices) or "base"

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All overrides, in the order in which they are applied."""
        return tuple(setting for choice in self.choices for setting in choice.settings)


def is_resources(setting: Setting) -> bool:
    """Whether it says what a trial occupies, and so is no override of the trial."""
    return split(setting.path)[0] == "resources"


def of_trials(settings: Iterable[Setting]) -> list[Setting]:
    """Those that change trials."""
    return [setting for setting in settings if not is_resources(setting)]


def too_many(
    arms: Mapping[str, Any] | None,
    axes: Mapping[str, Sequence[Any]],
    zipped: Mapping[str, Sequence[Any]],
) -> tuple[Keys, str] | None:
    """Where and why so many paths or cells are not even looked at; None if they can be."""
    for key, columns in (("axes", axes), ("zip", zipped)):
        if len(columns) > MOST_SETTINGS:
            message = f"varies {len(columns):,} paths, more than {MOST_SETTINGS}: "
            return (key,), message + "keep those to compare, and put what is fixed into `set`"
    lengths = [
        len(arms or ()),
        *map(len, axes.values()),
        *([max(map(len, zipped.values()))] if zipped else []),
    ]
    count = math.prod(max(1, length) for length in lengths)
    if count <= LARGEST_SWEEP:
        return None
    return (), f"makes {count:,} cells, more than {LARGEST_SWEEP:,}: shorten the axes"


def dimensions(
    arms: Mapping[str, Mapping[str, Any]] | None,
    axes: Mapping[str, Sequence[Any]],
    zipped: Mapping[str, Sequence[Any]],
    complain: Complain,
) -> list[list[Choice]]:
    """What varies: the arms, each axis, and the rows of `zip`; each a list of choices."""
    short = short_names([*axes, *zipped])
    varied: list[list[Choice]] = []
    if arms is not None:
        varied.append(
            [Choice(n, settings(o, ("arms", n), complain), ("arms", n)) for n, o in arms.items()]
        )
    for path, values in axes.items():
        varied.append(_axis(path, values, short[path], complain))
    if zipped:
        varied.append(_zip(zipped, short, complain))
    _refuse_overlaps(varied, complain)
    return varied


def combine(varied: Sequence[Sequence[Choice]]) -> list[Combination]:
    """The cartesian product of all dimensions, the first one slowest."""
    return [Combination(choices) for choices in itertools.product(*varied)]


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Each path's shortest ending that no other path shares: `optimizer.lr` is `lr`."""
    names = {}
    for path in paths:
        parts = path.split(".")
        endings = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        names[path] = next(
            (
                ending
                for ending in endings
                if not any(other != path and f".{other}".endswith(f".{ending}") for other in paths)
            ),
            path,
        )
    return names


def value_label(value: Any) -> str:
    """A value as a word for a cell's name: `cosine`, `p2(gamma=0.5,k=1)`, `0.004`."""
    if isinstance(value, dict):
        inner = ",".join(
            f"{key}={value_label(item)}" for key, item in value.items() if key != "kind"
        )
        kind = str(value.get("kind", ""))
        return f"{kind}({inner})" if inner or not kind else kind
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(value_label(item) for item in value) + "]"
    return yaml_text(value)


def settings(overrides: Mapping[str, Any], home: Keys, complain: Complain) -> tuple[Setting, ...]:
    """The overrides written at `home`: an arm's, or those of `set`."""
    listed = tuple(Setting(path, value, (*home, path)) for path, value in overrides.items())
    if (count := sum(len(setting.leaves) for setting in listed)) > MOST_SETTINGS:
        complain(home, f"changes {count:,} paths, more than {MOST_SETTINGS}: write a preset", False)
        return ()
    for earlier, later in itertools.combinations(listed, 2):
        if later.hides(earlier):
            message = f"replaces what `{earlier.path}` sets just above: keep one of them"
            complain(later.keys, message, True)
    return listed


def _leaves(keys: Keys, value: Any, inside: bool = False) -> Iterator[Keys]:
    if isinstance(value, dict) and value and (inside or "kind" not in value):
        for key, item in value.items():
            yield from _leaves((*keys, *split(key)), item, inside)
    else:
        yield keys


def _axis(path: str, values: Sequence[Any], short: str, complain: Complain) -> list[Choice]:
    home: Keys = ("axes", path)
    if not values:
        complain(home, "has no values: list them as [a, b], or leave the axis out", False)
    for at, value in enumerate(values):
        first = _index(values, value)
        if first < at:
            complain(
                (*home, at), f"repeats value {first + 1}, {yaml_text(value)}: remove one", False
            )
    return [
        Choice(f"{short}={value_label(value)}", (Setting(path, value, (*home, at)),), (*home, at))
        for at, value in enumerate(values)
        if _index(values, value) == at
    ]


def _zip(
    columns: Mapping[str, Sequence[Any]], short: Mapping[str, str], complain: Complain
) -> list[Choice]:
    first_path, *_ = columns
    length = len(columns[first_path])
    for path, values in columns.items():
        if len(values) != length:
            message = (
                f"has {len(values)} entries, `{first_path}` has {length}: zip pairs them one to one"
            )
            complain(("zip", path), message, False)
            return []
    if length == 0:
        complain(("zip", first_path), "has no values: list them as [a, b], or leave zip out", False)
    rows: list[Choice] = []
    for at in range(length):
        settings = tuple(
            Setting(path, values[at], ("zip", path, at)) for path, values in columns.items()
        )
        named = [one for one in settings if not is_resources(one)] or settings
        label = ",".join(f"{short[one.path]}={value_label(one.value)}" for one in named)
        if any(label == row.label for row in rows):
            complain(
                settings[0].keys, f"row {at + 1} of zip repeats an earlier one: remove it", False
            )
        else:
            rows.append(Choice(label, settings, settings[0].keys))
    return rows


def _refuse_overlaps(varied: Sequence[Sequence[Choice]], complain: Complain) -> None:
    """Two dimensions must not write the same place: the later one would hide the earlier."""
    reported: set[tuple[str, str]] = set()
    for earlier, later in itertools.combinations(varied, 2):
        for mine in (setting for choice in earlier for setting in choice.settings):
            for theirs in (setting for choice in later for setting in choice.settings):
                if (mine.path, theirs.path) not in reported and theirs.hides(mine):
                    reported.add((mine.path, theirs.path))
                    message = f"overwrites `{dotted(mine.keys)}`: vary each path in one place only"
                    complain(theirs.keys[:2], message, True)


def _index(values: Sequence[Any], value: Any) -> int:
    """Where an equal value stands first; 1, 1.0 and true are not equal here, NaN equals itself."""
    return next(at for at, other in enumerate(values) if _same(other, value))


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    return bool(one == other or (one != one and other != other))
