"""What may an experiment's YAML say? The keys of `ExperimentSpec`, as they are written."""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

import math
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from service.experiment.budget import Budget
from service.experiment.criterion import Compare
from service.experiment.seeds import AnySeeds, looks, seed_list
from service.policy import AnyPolicy, Fixed
from service.progress import OCCASIONS, Occasion
from service.resources import Asked
from service.search.spec import Search
from trainer.spec import Spec
from trainer.yaml.writer import yaml_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""Names of experiments and arms: they become directories, run names and legends."""
TWIN = "~equal"
"""Ending of the name of an equal-objective twin."""
_LONGEST_NAME = 120
_ALLOWED = "letters from a to z, digits, `-`, `_`, `+` and `.`"


def name_fault(name: str, what: str = "a name") -> str | None:
    """Why a text cannot name an experiment or an arm; None if it can."""
    if not name.isprintable():
        return f"{yaml_text(name)} is not {what}: use {_ALLOWED}"
    if len(name) > _LONGEST_NAME:
        return f"`{name[:20]}...` has {len(name)} characters: use at most {_LONGEST_NAME}"
    if not name[:1].isascii() or not name[:1].isalnum():
        return f"`{name}` is not {what}: begin with a letter from a to z or a digit"
    if not NAME.fullmatch(name):
        return f"`{name}` is not {what}: use {_ALLOWED}"
    return None


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
    seeds: AnySeeds = 6
    """How many seeds, which, or as many as it takes. Cells are paired by seed; three screen, six can decide.

    `{first: 6, most: 24}` gives every cell six, and more to those that are undecided at the planned looks.
    """
    budget: Budget | None = None
    """The most that is spent, such as `{gpu_hours: 10}`; null: whatever it takes."""
    controls: tuple[Literal["equal_objective"], ...] = ()
    """equal_objective: for each cell that moved density or weighting, add the twin with the same
    expected loss that moves it by the other means."""
    compare: Compare = Compare()
    """How the cells are judged."""
    search: Search | None = None
    """Tune the cells before they are compared; null: they are compared as they are written."""
    policy: AnyPolicy = Fixed()
    """What runs, how far and in which order."""
    export: Literal["winner"] | None = None
    """winner: a run ends by writing the model of the cell that won as a diffusers folder, logged to MLflow as well."""
    notify: tuple[Occasion, ...] = OCCASIONS
    """When somebody is told: on a verdict, a failure, the end. Where to is said by DIFFSWEEP_WEBHOOK, an address that
    gets a POST, or DIFFSWEEP_NOTIFY_COMMAND; nobody is told without."""
    launcher: Literal["train", "inproc", "ensemble"] = "train"
    """train: a Ray Train TorchTrainer per trial. inproc: inside the Tune actor, one worker; for trials of seconds.
    ensemble: several trials in each actor, as one program; for small networks, which wait for the host."""
    together: Annotated[int, Field(ge=2, le=256)] = 16
    """How many trials share a process at most, with launcher ensemble."""
    resources: Asked = Asked()
    """What one trial occupies. An arm, axis or zip that says `resources.gpus: 1` means the trials of its cells."""

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

    def shared_by(self, waiting: int, places: float) -> int:
        """How many trials share a process, of so many that wait for so many places: none of those stays empty."""
        return max(1, min(self.together, math.ceil(waiting / places)))

    def seed_list(self) -> list[int]:
        """Every seed that a cell may get."""
        return seed_list(self.seeds)

    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds at which the verdict is planned to be asked, rising; one for a fixed number."""
        return looks(self.seeds)
