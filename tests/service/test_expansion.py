"""Names of cells are short and unique, and say the value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.experiment.expansion import short_names, value_label


def test_short_names_are_the_shortest_unique_endings() -> None:
    assert short_names(["optimizer.lr", "a.b.kind", "c.b.kind", "lr.b"]) == {
        "optimizer.lr": "lr",
        "a.b.kind": "a.b.kind",
        "c.b.kind": "c.b.kind",
        "lr.b": "b",
    }


@given(
    st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_short_names_never_collide(given_paths: list[str]) -> None:
    names = short_names(given_paths)

    assert len(set(names.values())) == len(given_paths)
    assert all(f".{path}".endswith(f".{name}") for path, name in names.items())


def test_value_labels() -> None:
    assert value_label({"kind": "p2", "gamma": 0.5, "k": 1.0}) == "p2(gamma=0.5,k=1)"
    assert value_label({"kind": "cosine"}) == "cosine"
    assert value_label([0.9, 0.99]) == "[0.9,0.99]"
    assert value_label(True) == "true"
