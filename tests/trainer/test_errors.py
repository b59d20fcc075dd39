"""A misspelt word finds the known word that was meant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import closest, suggestion


@given(st.text(max_size=12), st.lists(st.text(min_size=1, max_size=12), max_size=6))
def test_a_suggestion_is_always_a_known_word(word: str, known: list[str]) -> None:
    assert closest(word, known) in [None, *known]
    assert not known or suggestion(word, known)


def test_suggestions_look_past_case_and_dashes() -> None:
    assert closest("Linear-Beta", ["cosine", "linear_beta"]) == "linear_beta"
    assert closest("zzz", ["cosine"]) is None
    assert suggestion("zzz", ["cosine", "p2"]) == "; known: `cosine`, `p2`"
