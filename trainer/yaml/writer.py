"""How is a value written so that it is read back as the same value? Short for a person, exact for a file."""

from __future__ import annotations

import json
import math
import numbers
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from trainer.errors import InputError, Problem
from trainer.yaml.keys import Keys, dotted
from trainer.yaml.limits import refuse_endless
from trainer.yaml.scalar import MOST_DIGITS, scalar

_BARE: Final = re.compile(r"(?!-(?: |$)|---|\.\.\.)[A-Za-z0-9_./~+-][A-Za-z0-9_./~+ -]*(?<! )")
"""Text that needs no quotes in YAML, unless it reads as a number or a word of YAML."""
_LONGEST_KEY: Final = 500
"""YAML finds a key without `?` within 1024 characters, escapes counted."""
_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_WORDS_FOR: Final = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}


def yaml_text(value: Any) -> str:
    """A value in YAML's flow style, for a message: `4` for 4.0, quotes only where they are needed."""
    if isinstance(value, dict):
        items = (f"{_flow_key(_shortest(key))} {yaml_text(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml_text(item) for item in value) + "]"
    if isinstance(value, str):
        return _shortest(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return _exact_scalar(value)


def yaml_document(data: Any) -> str:
    """A document as a file that is read back equal in value and type; made of what `plain` returns."""
    return ("\n".join(_block(data, "")) if isinstance(data, dict) else _flow(data)) + "\n"


def bounded(value: Any, name: str) -> Any:
    """What `plain` makes of a value. InputError also where it is more than a file may hold, or holds itself."""
    refuse_endless(value, name)
    return plain(value, name)


def plain(value: Any, name: str, keys: Keys = ()) -> Any:
    """A value written in Python as YAML's own types: tuples are lists, numpy's numbers are numbers.

    InputError, with the path in the document `name`, for what YAML cannot say.
    """
    if isinstance(value, Mapping):
        return {
            _plain_key(key): plain(item, name, (*keys, str(key))) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item, name, (*keys, at)) for at, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == ():  # a scalar of numpy or torch
        return plain(value.item(), name, keys)
    message = f"a {type(value).__name__} is no YAML value: use text, numbers, lists and mappings"
    raise InputError([Problem(name, None, dotted(keys), message)])


def _plain_key(key: Any) -> str:
    return key if isinstance(key, str) else yaml_text(key)


def _block(data: Mapping[str, Any], indent: str) -> list[str]:
    """Mappings below each other, everything else on the line of its key."""
    lines: list[str] = []
    for key, value in data.items():
        name = _quoted(key)
        start = f"{indent}{name}:" if len(name) <= _LONGEST_KEY else f"{indent}? {name}\n{indent}:"
        if isinstance(value, dict) and value:
            lines += [start, *_block(value, indent + "  ")]
        else:
            lines.append(f"{start} {_flow(value)}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        items = (f"{_flow_key(_quoted(key))} {_flow(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _quoted(value) if isinstance(value, str) else _exact_scalar(value)


def _flow_key(name: str) -> str:
    return f"{name}:" if len(name) <= _LONGEST_KEY else f"? {name} :"


def _exact_scalar(value: Any) -> str:
    if isinstance(value, float):
        text = repr(value)
        return _WORDS_FOR.get(text, text)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _shortest(text: str) -> str:
    is_plain = _BARE.fullmatch(text) and len(text) <= MOST_DIGITS and isinstance(scalar(text), str)
    return text if is_plain else _quoted(text)


def _quoted(text: str) -> str:
    """Double quotes; what does not print is escaped by its number."""
    return (
        '"' + "".join(_ESCAPED.get(c) or (c if c.isprintable() else _number(c)) for c in text) + '"'
    )


def _number(character: str) -> str:
    code = ord(character)
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"
