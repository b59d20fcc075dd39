"""In how many forward passes is a worker's share of a batch computed, and what if one does not fit into memory?

A batch in smaller passes is the same step: every random number belongs to an example, and the gradients of the passes
add up to those of the whole, to the order of summation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.errors import UserError
from trainer.files import write_whole

if TYPE_CHECKING:
    from trainer.distributed import World
    from trainer.trial import TrialSpec

OnOOM = Literal["halve_microbatch", "fail"]
"""What a training does when memory runs out in a step."""
FILE = "passes.json"


class SmallerPasses(RuntimeError):  # noqa: N818
    """A pass did not fit, and several workers train: all of them begin again from the checkpoint, with smaller ones."""

    def __init__(self, microbatch: int) -> None:
        super().__init__(f"out of memory: the same command goes on, {microbatch} images in a pass")
        self.microbatch = microbatch

    def __reduce__(self) -> tuple[type[SmallerPasses], tuple[int]]:
        return SmallerPasses, (self.microbatch,)


class Passes:
    """This worker's share of every batch, cut into (start, count).

    Raises UserError when batch and workers do not divide.
    """

    def __init__(
        self,
        trial: TrialSpec,
        world: World,
        most: int | None = None,
        on_oom: OnOOM = "fail",
    ) -> None:
        """`most` images in a pass, where memory ran out before."""
        batch = trial.train.batch_size
        if batch % world.size:
            raise UserError(
                f"train.batch_size: {batch} cannot be shared by {world.size} workers: use a multiple of {world.size}"
            )
        self.share = batch // world.size
        size = min(trial.train.microbatch or self.share, self.share)
        if trial.train.gns and world.size == 1 and size == self.share:
            size = (self.share + 1) // 2  # it compares parts of a batch
        self.size = size if most is None else min(size, most)
        """Images in a pass; the last one may have fewer."""
        self.halves = on_oom == "halve_microbatch"

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.share, self.size):
            yield start, min(self.size, self.share - start)

    def counts(self) -> list[int]:
        """Images of each pass."""
        return [count for _, count in self]

    def half(self) -> int | None:
        """Images in a pass half as large; None where that is not wanted, or there is none."""
        return (self.size + 1) // 2 if self.halves and self.size > 1 else None


@dataclass(frozen=True)
class Kept:
    """That a training goes on in smaller passes, in a file beside its record."""

    microbatch: int
    images: int
    """Training images seen when memory ran out."""

    @classmethod
    def of(cls, directory: Path) -> Kept | None:
        """What was kept there; None where memory never ran out."""
        try:
            return cls(**json.loads((directory / FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, directory: Path) -> None:
        """From now on, whoever continues."""
        write_whole(directory / FILE, json.dumps(asdict(self)))

    def note(self) -> str:
        """A line for the person."""
        return (
            f"out of memory after {self.images / 1000:g} kimg: goes on with {self.microbatch} images in a pass; the "
            "batch, and all that is random in it, stay the same"
        )
