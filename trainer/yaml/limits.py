"""How much may a document hold, from a file or written in Python? What is beyond comes from a generator gone wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trainer.errors import InputError, Problem
from trainer.yaml.keys import Keys, dotted
from trainer.yaml.scalar import MOST_DIGITS

MOST_VALUES: Final = 20_000
"""A thousand cells that set a dozen values each; so many are read in two seconds."""
TOO_MANY: Final = (
    f"holds more than {MOST_VALUES:,} values, aliases counted: a generator has gone wrong"
)
DEEPEST: Final = 50
"""Specs are six deep; endless brackets come from a generator gone wrong."""
TOO_DEEP: Final = f"is nested more than {DEEPEST} deep"
LARGEST: Final = 2**20
"""Bytes of a file, characters of all texts in a mapping."""
TOO_LARGE: Final = "is larger than 1 MB: an experiment is a page of text"


def refuse_endless(data: Any, name: str) -> None:
    """InputError where values written in Python are more than a file may hold; `name` is what messages call them."""
    waiting: list[tuple[Any, Keys]] = [(data, ())]
    seen = characters = 0
    while waiting:
        value, keys = waiting.pop()
        seen += 1
        texts = value if isinstance(value, Mapping) else (value,)
        characters += sum(len(text) for text in texts if isinstance(text, str))
        if (why := _excess(value, keys, seen, characters)) is not None:
            raise InputError([Problem(name, None, dotted(keys[:1]), why)])
        waiting += _inside(value, keys)


def _excess(value: Any, keys: Keys, seen: int, characters: int) -> str | None:
    if len(keys) > DEEPEST:
        return TOO_DEEP
    if characters > LARGEST:
        return TOO_LARGE
    inside = len(value) if isinstance(value, Mapping | list | tuple) else 0
    if seen + inside > MOST_VALUES:
        return TOO_MANY
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        return f"is a whole number of more than {MOST_DIGITS} digits: write it shorter, or as text"
    return None


def _inside(value: Any, keys: Keys) -> list[tuple[Any, Keys]]:
    """What a value holds, keys that are no text included."""
    if isinstance(value, Mapping):
        items = [
            (item, (*keys, key if isinstance(key, str) else "?")) for key, item in value.items()
        ]
        return items + [(key, (*keys, "?")) for key in value if not isinstance(key, str)]
    if isinstance(value, list | tuple):
        return [(item, (*keys, at)) for at, item in enumerate(value)]
    return []
