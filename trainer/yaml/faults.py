"""What is wrong with a finished tree that its model does not say in plain words, or does not say at all?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainer.yaml.keys import Keys
from trainer.yaml.wording import shown
from trainer.yaml.writer import yaml_text

_SMALLEST = 1e-30
"""Products of such numbers are nothing in float32."""


@dataclass(frozen=True)
class Fault:
    """Something wrong at a path of the finished tree, not yet traced to where it was written."""

    keys: Keys
    message: str
    of_key: bool = False


def coerced(given: Any, became: Any, keys: Keys = ()) -> list[Fault]:
    """Where a lenient parser would guess: text or true/false given for a number, text for true/false."""
    if isinstance(given, dict) and isinstance(became, dict):
        pairs = [(key, given[key], became[key]) for key in given if key in became]
        return [guess for key, old, new in pairs for guess in coerced(old, new, (*keys, key))]
    if isinstance(given, list) and isinstance(became, list) and len(given) == len(became):
        every = enumerate(zip(given, became, strict=True))
        return [guess for at, (old, new) in every for guess in coerced(old, new, (*keys, at))]
    if isinstance(became, bool) and not isinstance(given, bool):
        return [Fault(keys, f"must be true or false, not {shown(given)}")]
    is_number = isinstance(became, (int, float)) and not isinstance(became, bool)
    if is_number and isinstance(given, str):
        without = f"write {yaml_text(became)} without quotes"
        return [Fault(keys, f"must be a number, not text: {without}")]
    if is_number and isinstance(given, bool):
        return [Fault(keys, f"must be a number, not {shown(given)}")]
    return []


def uncountable(data: Any) -> list[Fault]:
    """Whole numbers that no machine counts with, and others that it cannot tell from nothing."""
    every = list(_numbers(data, ()))
    return [
        Fault(keys, f"{shown(value)} {_beyond(value)}")
        for _, keys, value in every
        if isinstance(value, int) and abs(value) >= 2**63
    ] + [
        Fault(
            keys,
            f"{shown(value)} is too small to be told from 0: write a larger number, or 0 if it may be 0",
        )
        for size, keys, value in every
        if 0.0 < size < _SMALLEST
    ]


def too_large(data: Any) -> Fault:
    """A number with too many zeros broke the arithmetic of a check: most likely the largest one."""
    _, keys, value = max(_numbers(data, ()), default=(0.0, (), None), key=lambda n: n[0])
    return Fault(keys, f"{shown(value)} {_beyond(value, ' to be computed with')}")


def _beyond(value: Any, what_for: str = "") -> str:
    if isinstance(value, int | float) and value < 0:
        return f"is too far below 0{what_for}: write a larger number"
    return f"is too large{what_for}: write a smaller number"


def _numbers(data: Any, keys: Keys) -> Iterator[tuple[float, Keys, Any]]:
    """The magnitude of every number, with its place."""
    if isinstance(data, (dict, list)):
        for key, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _numbers(item, (*keys, key))
    elif isinstance(data, (int, float)) and not isinstance(data, bool):
        yield (float(min(abs(data), 10**300)), keys, data)
