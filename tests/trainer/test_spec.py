"""Proves that names of specs survive widening: a field at its neutral value is as if it were not there."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from trainer.spec import Neutral, Spec


class Solver(Spec):
    """Before."""

    kind: Literal["heun"] = "heun"
    steps: int = 4


class WiderSolver(Solver):
    """After: new trials churn by default, old ones did not."""

    churn: Annotated[float, Field(ge=0.0), Neutral(0.0)] = 0.5


class Trial(Spec):
    """Holds solvers in every way that a spec can."""

    solver: Solver = Solver()
    more: tuple[Solver, ...] = (Solver(steps=2),)
    seed: int = 0


class WiderTrial(Spec):
    """The same, wider at every level."""

    solver: WiderSolver = WiderSolver()
    more: tuple[WiderSolver, ...] = (WiderSolver(steps=2, churn=0.0),)
    seed: int = 0
    inputs: Annotated[tuple[str, ...], Neutral(())] = ()


class OtherDefault(Spec):
    """The same fields, another default."""

    solver: Solver = Solver(steps=5)
    more: tuple[Solver, ...] = (Solver(steps=2),)
    seed: int = 0


def test_a_neutral_value_changes_no_digest() -> None:
    wide = WiderTrial(solver=WiderSolver(churn=0.0))
    assert wide.canonical() == Trial().canonical()
    assert wide.digest() == Trial().digest()


@pytest.mark.parametrize(
    "other",
    [
        WiderTrial(),
        WiderTrial(solver=WiderSolver(churn=0.1)),
        WiderTrial(solver=WiderSolver(churn=0.0), inputs=("x",)),
        WiderTrial(
            solver=WiderSolver(churn=0.0), more=(WiderSolver(steps=2, churn=1.0),)
        ),
        OtherDefault(),
        Trial(seed=1),
    ],
)  # fmt: skip
def test_every_other_value_and_another_default_do(other: Spec) -> None:
    assert other.digest() != Trial().digest()


def test_what_was_saved_before_is_read_back_as_what_it_was() -> None:
    """A YAML without the field means the default; a saved trial without it means the neutral value."""
    before = Trial(seed=3).model_dump_json()
    assert WiderTrial.saved(before).digest() == Trial(seed=3).digest()
    assert WiderTrial.saved(before).solver.churn == 0.0
    assert WiderTrial.model_validate_json(before).solver.churn == 0.5
    now = WiderTrial(seed=3)
    assert WiderTrial.saved(now.model_dump_json()) == now


class Betas(Spec):
    """A mark as a YAML writes it: the field holds a tuple, and a solver."""

    betas: Annotated[tuple[float, ...], Neutral([0.9])] = (0.9, 0.99)
    solver: Annotated[Solver | None, Neutral({"kind": "heun", "steps": 3})] = None


def test_a_neutral_value_is_compared_as_the_field_holds_it() -> None:
    neutral = Betas(betas=(0.9,), solver=Solver(steps=3))
    assert neutral.identity() == {}
    assert Betas.saved({}) == neutral
    assert Betas().identity() == {"betas": [0.9, 0.99], "solver": None}


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[int, Neutral(0)] | None,
        tuple[Annotated[int, Neutral(0)], ...],
        Annotated[dict[str, Annotated[int, Neutral(0)]], Field(min_length=1)],
    ],
)
def test_a_mark_inside_a_type_is_refused(annotation: Any) -> None:
    """It would be lost without a word, and finished trials with it."""
    with pytest.raises(
        TypeError, match=r"Lost\.x: .* write Annotated\[int \| None, Neutral\(0\)\]"
    ):
        type("Lost", (Spec,), {"__annotations__": {"x": annotation}, "x": None})


@pytest.mark.parametrize("value", [-1, float("inf"), "few", None])
def test_a_neutral_value_that_the_field_would_not_hold_is_refused(value: Any) -> None:
    annotation = Annotated[float, Field(ge=0.0), Neutral(value)]
    with pytest.raises(TypeError, match="Wrong: Neutral of a value that is none"):
        type("Wrong", (Spec,), {"__annotations__": {"x": annotation}, "x": 1.0})
