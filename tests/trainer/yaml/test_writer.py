"""What is written is read back equal, in value and in type; what YAML cannot say is refused with its path."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.errors import InputError
from trainer.yaml.source import parse
from trainer.yaml.writer import plain, yaml_document, yaml_text

LOOKS_LIKE_ANOTHER = [
    *("0.10", "1_000", "1e-3", "yes", "off", "0o17", "0x1F", "2026-11-26", "12:30", "null", "~"),
    *("", ".inf", ".nan", "true", "-", "- a", "---", "...", "<<", "*a", "&a", "!x", "%", "@", "`"),
    *("a: b", "a #b", "#", "{", "[", "? x", " a ", "a\nb", "\t", "\\", '"', "'", "\x85", "\u2028"),
    *("\ufeff", "\x00", "\x7f", "9" * 5000, "k" * 3000, "\U0001f600", "\ue000", "é", "=", "|", ">"),
]
TEXTS = st.text(max_size=30) | st.sampled_from(LOOKS_LIKE_ANOTHER)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**599), 10**599)
    | st.floats()
    | st.sampled_from([0.0, -0.0, 1.0, 1e16, 1e300, 5e-324, math.inf, -math.inf, math.nan])
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value, type and order of keys; NaN equals NaN, and -0.0 is not 0.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


@given(st.dictionaries(TEXTS, VALUES, max_size=6))
@example({name: {"name": name} for name in LOOKS_LIKE_ANOTHER})
@example({"arms": {name: [name, {name: name}] for name in LOOKS_LIKE_ANOTHER}})
def test_a_document_is_read_back_as_it_was(data: dict[str, Any]) -> None:
    assert same(parse(yaml_document(data), "f").data or {}, data)


def test_a_document_is_for_people_too() -> None:
    data = {"name": "x", "base": {"train": {"kimg": 4.0, "ids": [1, {"a": None}]}}, "arms": {}}

    assert yaml_document(data) == (
        '"name": "x"\n"base":\n  "train":\n    "kimg": 4.0\n    "ids": [1, {"a": null}]\n"arms": {}\n'
    )


@given(VALUES)
def test_a_value_in_a_message_is_read_back_as_the_same_value(value: Any) -> None:
    found = parse(f"a: {yaml_text(value)}", "f").data["a"]

    assert repr(found) == repr(value) or found == value or "nan" in repr(value)


def test_messages_are_short() -> None:
    assert yaml_text({"kind": "p2", "k": 1.0, "on": True}) == "{kind: p2, k: 1, on: true}"
    assert yaml_text("0.10") == '"0.10"'
    assert yaml_text([math.inf, -math.inf, math.nan]) == "[.inf, -.inf, .nan]"


def test_values_of_python_become_yamls() -> None:
    given_values = {
        "a": (1, np.int64(2), np.float32(0.5), np.float64(0.1), np.bool_(True)),
        "b": Path("x/y"),
        0.1: None,
    }

    assert same(plain(given_values, "f"), {"a": [1, 2, 0.5, 0.1, True], "b": "x/y", "0.1": None})


def test_what_yaml_cannot_say_is_refused_with_its_path() -> None:
    with pytest.raises(InputError) as caught:
        plain({"base": {"data": [object()]}}, "experiment")

    assert str(caught.value) == (
        "experiment: base.data[0]: a object is no YAML value: use text, numbers, lists and mappings"
    )
