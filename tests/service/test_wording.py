"""Names are short and unique, values are printed as YAML reads them, and slips are understood."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.errors import closest, suggestion
from service.experiment.expansion import short_names, value_label
from service.yaml.shape import choose, kinds, members, paths
from service.yaml.source import parse
from service.yaml.wording import yaml_text
from trainer.trial import TrialSpec


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


def all_kinds() -> list[tuple[str, list[str]]]:
    """Every union of the trial with its kinds."""
    found = []
    for path in paths(TrialSpec):
        candidates: list[Any] = [TrialSpec]
        for part in path.split("."):
            candidates = [
                member
                for model in candidates
                if part in model.model_fields
                for member in members(model.model_fields[part].annotation)
            ]
        if len(known := kinds(candidates)) > 1:
            found.append((path, known))
    return found


def test_every_slip_of_a_kind_is_understood() -> None:
    seen = 0
    for _, known in all_kinds():
        for kind in known:
            for at in range(len(kind)):
                for slip in (kind[:at] + kind[at + 1 :], kind[:at] + "x" + kind[at + 1 :]):
                    if len(kind) < 4 or slip in known:
                        continue
                    seen += 1
                    meant = closest(slip, known)
                    assert meant is not None
                    assert meant == kind or _distance(slip, meant) <= _distance(slip, kind)
    assert seen > 100


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)))
    return row[-1]


@given(st.text(max_size=12), st.lists(st.text(min_size=1, max_size=12), max_size=6))
def test_a_suggestion_is_always_a_known_word(word: str, known: list[str]) -> None:
    assert closest(word, known) in [None, *known]
    assert not known or suggestion(word, known)


def test_suggestions_look_past_case_and_dashes() -> None:
    assert closest("Linear-Beta", ["cosine", "linear_beta"]) == "linear_beta"
    assert closest("zzz", ["cosine"]) is None
    assert suggestion("zzz", ["cosine", "p2"]) == "; known: `cosine`, `p2`"


def test_choose_finds_the_member_of_a_kind() -> None:
    found = members(TrialSpec.model_fields["data"].annotation)

    assert choose(found, {"kind": "digits"}) is not None
    assert choose(found, {"kind": "digit"}) is None
    assert choose(found, {}) is None
