"""What may the key `search` of an experiment's YAML say? Which settings are tried, how often, and for whom."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from service.search.ranges import AnyRange
from trainer.bounds import Kimg, Seed
from trainer.spec import Spec

_FIRST_SEED = 999_999_999
"""Seeds of the tuning count down from here, those of the comparison up from 0: no trial is in both."""


def _default_of_optuna(value: Any) -> Any:
    return "tpe" if value == "optuna" else value


class Search(Spec):
    """Tune before comparing, as in

        search:
          space: {optimizer.lr: {log: [1e-5, 1e-2]}, ema.decay: {choice: [0.99, 0.999]}}
          trials: 40

    The candidates are trained with seeds of their own (999999999, 999999998, ...). Then every cell is trained
    with its winner and the experiment's `seeds`, and only those trials are compared: the luck of a candidate
    that won is not in them. `trials` bounds the search; looks and `budget` are those of the comparison.
    """

    space: dict[str, AnyRange]
    """What may be tried, by dotted path. A range is `{log: [low, high]}`, `{linear: [low, high]}`,
    `{int: [low, high]}` or `{choice: [a, b, ...]}`."""
    trials: Annotated[int, Field(ge=2, le=1000)] = 40
    """How many candidates each cell gets, or all together with `per: all`. More of them continue the search."""
    by: Annotated[Literal["tpe", "gp", "cmaes", "random"], BeforeValidator(_default_of_optuna)] = (
        "tpe"
    )
    """Who chooses the next candidate: tpe (or optuna: its tree-structured Parzen estimator), gp (a Gaussian
    process, for few candidates of a few numbers), cmaes (for numbers only), or random."""
    per: Literal["cell", "all"] = "cell"
    """cell: each cell gets its own best setting, with equal effort. all: one setting for all cells, that with the
    lowest mean log metric over them (or the best mean rank, where a value is not positive)."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """With how many seeds a candidate is trained; the mean over them counts."""
    at: Kimg | None = None
    """Train a candidate only to its first evaluation at so many kimg, and judge it by its curve there (the cheap
    protocol, where there is one); null: to the end, by the metric that decides."""
    seed: Seed = 0
    """Another one gives other candidates."""

    @model_validator(mode="after")
    def _possible(self) -> "Search":
        if not self.space:
            raise ValueError("space: is empty: name a path and what may be tried there")
        points = self.points()
        if points < self.trials:
            raise ValueError(
                f"trials: {self.trials} are more than the {points:.0f} settings that the space holds: "
                f"write {points:.0f} or fewer"
            )
        if self.by == "cmaes":
            listed = [path for path, one in self.space.items() if not one.axis().is_ordered]
            if listed:
                raise ValueError(
                    f"by: cmaes needs an order, and `{listed[0]}` is a choice: use tpe, or give a range"
                )
            if len(self.space) < 2:
                raise ValueError("by: cmaes needs two paths or more: use tpe or gp for one")
        return self

    def points(self) -> float:
        """How many different settings there are."""
        count = 1.0
        for one in self.space.values():
            count *= one.count()
        return count

    def seed_list(self) -> list[int]:
        """The seeds of every candidate."""
        return [_FIRST_SEED - at for at in range(self.seeds)]
