"""What does a kind of data set say of itself? Its shape before anything is read, its identity, its examples."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from trainer.data.source import Source
from trainer.spec import Spec

Split = Literal["train", "test"]
"""Which real images something looks at: those of training, or those that it does not see."""


@dataclass(frozen=True)
class Outline:
    """What is known of a data set before its examples are decoded."""

    fingerprint: str
    source: Source | None = None
    """Its codec and flips are true, though it may have no examples; None: only `load` tells."""
    line: str | None = None
    """Examples, classes and what was left out, in one line; None: a published set, which is known."""
    remarks: tuple[str, ...] = ()
    """What a person should know of it, a line each."""
    test: "Outline | None" = None
    """Of the test split, where somebody asked for it."""


class DataSpec(Spec):
    """A data set by name. Relative paths in it start at the data root (the working directory)."""

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where the data lies or how it is read: not in a trial's key, the fingerprint says the rest."""

    without_test: ClassVar[str] = "data: this kind of data holds nothing out"
    """What is said where somebody asks for the test split and `held_out` has none: with the way to get one."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""

    @property
    def levels(self) -> int | None:
        """Largest integer value of a pixel, as in the codec, known before the data is read; None: points."""
        return 255 if len(self.shape) == 3 else None

    @property
    def flips(self) -> bool:
        """Whether training mirrors the examples at random, known before the data is read."""
        return False

    @abstractmethod
    def fingerprint(self, root: Path, cache: Path | None = None) -> str:
        """16 hex digits that name the content, not its place: equal digits, equal examples. Raises DataError."""

    @abstractmethod
    def load(self, root: Path, cache: Path | None = None) -> Source:
        """The examples. `cache` is a folder for what is expensive to prepare. Raises DataError."""

    def held_out(self, root: Path, cache: Path | None = None) -> "DataSpec | None":
        """Examples of the same kind that training does not see, fitted alike; None: the set has none.

        `cache` as in `load`. Raises DataError.
        """
        return None

    def outline(self, root: Path, cache: Path | None = None) -> Outline:
        """What `validate` looks at and says; sets that are a user's own override it. Raises DataError."""
        return Outline(self.fingerprint(root, cache))
