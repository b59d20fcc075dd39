"""What does a kind of data set say of itself? Its shape before anything is read, its identity, its examples."""

from abc import abstractmethod
from pathlib import Path

from trainer.data.source import Source
from trainer.spec import Spec


class DataSpec(Spec):
    """A data set by name. Relative paths in it start at the data root (the working directory)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""

    @property
    def flips(self) -> bool:
        """Whether training mirrors the examples at random, known before the data is read."""
        return False

    @abstractmethod
    def fingerprint(self, root: Path) -> str:
        """16 hex digits that name the content: equal digits, equal examples. Raises DataError."""

    @abstractmethod
    def load(self, root: Path, cache: Path | None = None) -> Source:
        """The examples. `cache` is a folder for what is expensive to prepare. Raises DataError."""
