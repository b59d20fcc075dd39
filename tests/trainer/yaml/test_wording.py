"""Values are printed as YAML reads them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trainer.yaml.source import parse
from trainer.yaml.writer import yaml_text


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.from_regex(r"[a-z][a-z_.]{0,8}", fullmatch=True), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_yaml_text_is_read_back_as_the_same_value(value: Any) -> None:
    assert parse(f"a: {yaml_text(value)}", "f").data == {"a": value}
