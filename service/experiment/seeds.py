"""How many seeds does a cell get? A count, a list, or as many as it takes: planned looks at the data on the way."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from trainer.bounds import Seed
from trainer.spec import Spec
from trainer.yaml.writer import yaml_text

MOST_SEEDS = 1000
_Number = Annotated[int, Field(ge=1, le=MOST_SEEDS)]


class Seeds(Spec):
    """As many seeds as it takes: all cells get `first`, those that are still open at a look get more, up to `most`.

    The looks are planned here, before there are data: that is what keeps the error rate over all of them.
    """

    first: _Number
    """Seeds at the first look. Six pairs are the fewest with which any word but INCONCLUSIVE is possible."""
    most: _Number
    """Seeds at the last look: what is open then stays INCONCLUSIVE."""
    every: _Number | None = None
    """Seeds from one look to the next; null: half of `first`, rounded up."""

    @model_validator(mode="after")
    def _rising(self) -> "Seeds":
        if self.first > self.most:
            raise ValueError(
                f"first: {self.first} is more than most: {self.most}: there are at most {self.most} seeds"
            )
        return self

    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds at the planned looks, rising; the last is `most`."""
        step = self.every or math.ceil(self.first / 2)
        return (*range(self.first, self.most, step), self.most)


def _plain(value: Any) -> Any:
    """A count, a list without repeats, or a mapping; complaints in plain words."""
    if isinstance(value, dict | Seeds):
        return value
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        raise ValueError(
            "must be a count such as 3, a list such as [0, 1, 2], or {first: 6, most: 24}"
        )
    if isinstance(value, int):
        if not 1 <= value <= MOST_SEEDS:
            raise ValueError(
                f"must be a count from 1 to {MOST_SEEDS}, or a list of seeds, not {value:,}"
            )
        return value
    if not value:
        raise ValueError("is an empty list: give a count such as 3, or at least one seed")
    if len(value) > MOST_SEEDS:
        raise ValueError(f"lists {len(value):,} seeds: at most {MOST_SEEDS:,} are used")
    for at, seed in enumerate(value):
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            # yaml_text writes 1.0 as 1
            is_round = isinstance(seed, float) and seed.is_integer()
            given = repr(seed) if is_round else yaml_text(seed)
            raise ValueError(f"a seed is a whole number from 0 on, not {given}")
        if seed in value[:at]:
            raise ValueError(f"seed {seed} is listed twice: remove one")
    return list(value)


def _form(value: Any) -> str:
    """Which of the three ways of writing it is: each is checked as what it is."""
    if isinstance(value, int):
        return "count"
    return "list" if isinstance(value, list | tuple) else "looks"


AnySeeds = Annotated[
    Annotated[int, Field(ge=1, le=MOST_SEEDS), Tag("count")]
    | Annotated[list[Seed], Tag("list")]
    | Annotated[Seeds, Tag("looks")],
    Discriminator(_form),
    BeforeValidator(_plain),
]
"""What a YAML's `seeds` may be."""


def seed_list(seeds: int | list[int] | Seeds) -> list[int]:
    """Every seed that a cell may get, the first first."""
    if isinstance(seeds, Seeds):
        return list(range(seeds.most))
    return list(range(seeds)) if isinstance(seeds, int) else list(seeds)


def looks(seeds: int | list[int] | Seeds) -> tuple[int, ...]:
    """Numbers of seeds at the planned looks; a count or a list is looked at once, when all are there."""
    return seeds.looks() if isinstance(seeds, Seeds) else (len(seed_list(seeds)),)
