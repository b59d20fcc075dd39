"""Proves that names of specs survive widening: a field at its neutral value is as if it were not there."""

from typing import Annotated, Literal

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
