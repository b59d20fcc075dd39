"""What may be tried at one path? Each kind of range is known by the one key that it has, `{log: [1e-5, 1e-2]}`."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError, field_validator

from trainer.bounds import Anything, AnyWhole
from trainer.spec import Spec
from trainer.yaml.keys import Keys
from trainer.yaml.wording import shown
from trainer.yaml.writer import yaml_text

_DIGITS = 6
"""Significant digits of a number that is tried: what is printed is what is trained."""
_LOOKED_AT = 8
"""Values inside the ends that are looked at before anything is trained."""


@dataclass(frozen=True)
class Axis:
    """A range as a sampler sees it: the numbers between two ends, both included."""

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False
    is_ordered: bool = True
    """False: the numbers are the places of a list, and neighbours have nothing in common."""

    def place(self, number: float) -> float:
        """Where a number lies, from 0 at the low end to 1 at the high one."""
        low, high = self.stretch()
        return ((math.log(number) if self.is_log else number) - low) / (high - low)

    def at(self, place: float) -> float:
        """Inverse of `place`."""
        low, high = self.stretch()
        number = low + place * (high - low)
        return math.exp(number) if self.is_log else number

    def stretch(self) -> tuple[float, float]:
        """The ends where the axis is even; a whole number owns half a step on each side."""
        if self.is_log:
            return math.log(self.low), math.log(self.high)
        room = 0.499 if self.is_whole else 0.0
        return self.low - room, self.high + room


class Range(Spec):
    """What may be tried at one path. A member has one field, whose name tells it apart, and maps numbers to values."""

    def axis(self) -> Axis:
        """The numbers that a sampler chooses from."""
        raise NotImplementedError

    def value(self, number: float) -> Any:
        """The YAML's value that such a number stands for."""
        raise NotImplementedError

    def number(self, value: Any) -> float:
        """Inverse of `value`."""
        return float(value)

    def ends(self) -> Iterator[tuple[Keys, Any]]:
        """The values that must all be possible, each with its place below the path."""
        raise NotImplementedError

    def between(self) -> list[Any]:
        """Some of the values inside the ends, evenly spaced as they are drawn; all, where there are few."""
        axis, ends = self.axis(), [value for _, value in self.ends()]
        if axis.is_whole and self.count() - 2 <= _LOOKED_AT:
            return [
                value
                for n in range(int(axis.low) + 1, int(axis.high))
                if (value := self.value(n)) not in ends
            ]
        places = ((at + 0.5) / _LOOKED_AT for at in range(_LOOKED_AT))
        values = dict.fromkeys(self.value(axis.at(place)) for place in places)
        return [value for value in values if value not in ends]

    def count(self) -> float:
        """How many different values there are."""
        return math.inf


class _Between(Range):
    """The numbers between two ends."""

    def _ends(self) -> tuple[str, tuple[float, float]]:
        ((name, ends),) = ((name, getattr(self, name)) for name in type(self).model_fields)
        return name, ends

    def value(self, number: float) -> float:
        """The number at six digits, inside the ends."""
        _, (low, high) = self._ends()
        return min(max(float(f"{number:.{_DIGITS}g}"), low), high)

    def ends(self) -> Iterator[tuple[Keys, Any]]:
        """Both of them."""
        name, ends = self._ends()
        yield from (((name, at), end) for at, end in enumerate(ends))


class Log(_Between):
    """A positive number, each order of magnitude as likely as the next: learning rates, weight decays."""

    log: tuple[Anything, Anything]

    @field_validator("log", mode="before")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        low, _ = pair = _pair("log", value)
        if low <= 0:
            raise ValueError(f"begins at {yaml_text(low)}, and a logarithm needs more than 0")
        return pair

    def axis(self) -> Axis:
        """Uniform in the logarithm."""
        return Axis(*self.log, is_log=True)


class Linear(_Between):
    """A number, every value between the ends as likely as the next."""

    linear: tuple[Anything, Anything]

    @field_validator("linear", mode="before")
    @classmethod
    def _two(cls, value: Any) -> Any:
        return _pair("linear", value)

    def axis(self) -> Axis:
        """Uniform."""
        return Axis(*self.linear)


class Int(Range):
    """A whole number, both ends included."""

    int: tuple[AnyWhole, AnyWhole]

    @field_validator("int", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        pair = _pair("int", value)
        for end in pair:
            if end != round(end):
                raise ValueError(f"must have whole ends, not {yaml_text(end)}: use linear for that")
        return [round(end) for end in pair]

    def axis(self) -> Axis:
        """Uniform over the whole numbers."""
        return Axis(*self.int, is_whole=True)

    def value(self, number: float) -> Any:
        """The whole number."""
        return round(number)

    def ends(self) -> Iterator[tuple[Keys, Any]]:
        """Both of them."""
        yield from ((("int", at), end) for at, end in enumerate(self.int))

    def count(self) -> float:
        """All between the ends."""
        return self.int[1] - self.int[0] + 1


class Choice(Range):
    """One of the listed values, whatever they are: numbers, words, mappings with a `kind`."""

    choice: tuple[Any, ...]

    @field_validator("choice", mode="before")
    @classmethod
    def _different(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) < 2:
            raise ValueError(f"choice must list two values or more, not {shown(value)}")
        for at, one in enumerate(value):
            if any(_same(one, other) for other in value[:at]):
                raise ValueError(f"choice lists {yaml_text(one)} twice: remove one")
        return value

    def axis(self) -> Axis:
        """The places in the list."""
        return Axis(0, len(self.choice) - 1, is_whole=True, is_ordered=False)

    def value(self, number: float) -> Any:
        """What is listed there."""
        return self.choice[round(number)]

    def number(self, value: Any) -> float:
        """Where it is listed."""
        return next(at for at, one in enumerate(self.choice) if _same(one, value))

    def between(self) -> list[Any]:
        """None: they are all ends."""
        return []

    def ends(self) -> Iterator[tuple[Keys, Any]]:
        """All of them."""
        yield from ((("choice", at), one) for at, one in enumerate(self.choice))

    def count(self) -> float:
        """All that are listed."""
        return len(self.choice)


RANGES = (Log, Linear, Int, Choice)
"""The members: a new range is one class above, its name here and in the line below."""


def _by_its_key(value: Any) -> Any:
    """The range that a mapping of one key describes."""
    if isinstance(value, RANGES):
        return value
    known = {name: member for member in RANGES for name in member.model_fields}
    wanted = (
        "a range such as {log: [1e-5, 1e-2]}, {linear: [0, 1]}, {int: [1, 4]} or {choice: [a, b]}"
    )
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in known:
        raise ValueError(f"must be {wanted}, not {shown(value)}")
    try:
        return known[next(iter(value))].model_validate(value)
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


AnyRange = Annotated[Log | Linear | Int | Choice, BeforeValidator(_by_its_key)]


def _pair(name: str, value: Any) -> list[float]:
    numbers = value if isinstance(value, list | tuple) else ()
    is_pair = len(numbers) == 2 and all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end)
        for end in numbers
    )
    if not is_pair:
        raise ValueError(f"{name} must be two numbers [low, high], not {shown(value)}")
    low, high = numbers
    if low >= high:
        raise ValueError(f"{name} must rise from low to high, not {yaml_text([low, high])}")
    return [low, high]


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
