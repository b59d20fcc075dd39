"""What may an experiment's YAML say? The keys of `ExperimentSpec`, as they are written."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    field_validator,
    model_validator,
)

from service.experiment.criterion import Compare
from service.policy import AnyPolicy, Fixed
from service.resources import Resources
from trainer.spec import Spec
from trainer.yaml.writer import yaml_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""Names of experiments and arms: they become directories, run names and legends."""
TWIN = "~equal"
"""Ending of the name of an equal-objective twin."""
_MOST_SEEDS = 1000
_LONGEST_NAME = 120


def name_fault(name: str, what: str = "a name") -> str | None:
    """Why a text cannot name an experiment or an arm; None if it can."""
    if not name.isprintable():
        return f"{yaml_text(name)} is not {what}: use letters, digits, `-`, `_` and `.`"
    if len(name) > _LONGEST_NAME:
        return f"`{name[:20]}...` has {len(name)} characters: use at most {_LONGEST_NAME}"
    if not name[:1].isascii() or not name[:1].isalnum():
        return f"`{name}` is not {what}: begin with a letter or a digit"
    if not NAME.fullmatch(name):
        return f"`{name}` is not {what}: use letters, digits, `-`, `_` and `.`"
    return None


def _seeds(value: Any) -> Any:
    """A count, or a list without repeats; complaints in plain words."""
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        raise ValueError("must be a count such as 3, or a list such as [0, 1, 2]")
    if isinstance(value, int):
        if not 1 <= value <= _MOST_SEEDS:
            raise ValueError(
                f"must be a count from 1 to {_MOST_SEEDS}, or a list of seeds, not {value:,}"
            )
        return value
    if not value:
        raise ValueError("is an empty list: give a count such as 3, or at least one seed")
    for at, seed in enumerate(value):
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ValueError(f"a seed is a whole number from 0 on, not {yaml_text(seed)}")
        if seed in value[:at]:
            raise ValueError(f"seed {seed} is listed twice: remove one")
    return list(value)


class ExperimentSpec(Spec):
    """One experiment: a complete trial (`base`) and what varies in it."""

    former: ClassVar[dict[str, str]] = {
        "stopping": "every trial runs to its end unless a `policy` says otherwise: remove it, or set `policy`"
    }
    """Keys that YAMLs had once: what to do about them."""
    name: str
    """Name of the experiment: its MLflow experiment and its directory of results."""
    base: str | dict[str, Any]
    """The trial that all cells start from: a preset file (relative to this one), or the trial itself."""
    set: dict[str, Any] = {}  # noqa: RUF012
    """Changes to `base` that hold for all cells: dotted path to new value.

    Here, in arms, axes, zip and -o: a mapping changes only the keys it has, so `optimizer: {lr: 1e-3}` is
    `optimizer.lr: 1e-3`. A mapping that names its `kind`, and everything that is no mapping, replaces the
    whole value; what it leaves out has the defaults of that kind.
    """
    arms: dict[str, dict[str, Any]] | None = None
    """Named cells: name to the dotted paths that differ from `base`; `{}` is the base itself."""
    axes: dict[str, list[Any]] = {}  # noqa: RUF012
    """Dotted path to values; every combination of all axes (and arms) is a cell."""
    zip: dict[str, list[Any]] = {}  # noqa: RUF012
    """Dotted paths to lists of equal length, varied together: first with first, second with second."""
    seeds: Annotated[int | list[int], BeforeValidator(_seeds)] = 3
    """How many seeds, or which. Cells are paired by seed; three screen, six can reach p < 0.05."""
    controls: tuple[Literal["equal_objective"], ...] = ()
    """equal_objective: for each cell that moved density or weighting, add the twin with the same
    expected loss that moves it by the other means."""
    compare: Compare = Compare()
    """How the cells are judged."""
    policy: AnyPolicy = Fixed()
    """What runs, how far and in which order."""
    launcher: Literal["train", "inproc"] = "train"
    """train: a Ray Train TorchTrainer per trial. inproc: inside the Tune actor, one worker; for trials of seconds."""
    resources: Resources = Resources()
    """What one trial occupies."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if (fault := name_fault(name)) is not None:
            raise ValueError(fault)
        return name

    @field_validator("controls", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else [] if value is None else value

    @model_validator(mode="after")
    def _one_worker_inproc(self) -> "ExperimentSpec":
        if self.launcher == "inproc" and self.resources.workers > 1:
            raise ValueError(
                f"launcher: inproc trains in one process, resources.workers is {self.resources.workers}: "
                "use launcher: train"
            )
        return self

    def seed_list(self) -> list[int]:
        """The seeds, as a list."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)
