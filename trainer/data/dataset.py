"""What does a data set give the loop? All examples as one tensor, and batches by global example index."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.randomness import Stream, derive


@dataclass(frozen=True)
class Dataset:
    """A whole data set, resident: uint8 images [N, C, H, W] or float32 points [N, D]."""

    examples: Tensor
    """uint8 values 0..levels, or float32 when `levels` is None."""
    labels: Tensor | None
    """int64 [N], or None."""
    levels: int | None
    """Largest integer value of a pixel: 255, or 16 for the digits."""
    flip: bool = False
    """Whether training mirrors images left to right at random."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.examples.shape[1:])

    def __len__(self) -> int:
        return len(self.examples)

    def to(self, device: torch.device) -> "Dataset":
        """The same data on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        return Dataset(self.examples.to(device), labels, self.levels, self.flip)

    def scaled(self, examples: Tensor) -> Tensor:
        """float32 in [-1, 1] for stored values."""
        if self.levels is None:
            return examples
        return examples.float() * (2.0 / self.levels) - 1.0

    def quantized(self, x: Tensor) -> Tensor:
        """Generated x rounded to the values that data can take, still in [-1, 1]."""
        if self.levels is None:
            return x
        half = 0.5 * self.levels
        return ((x + 1.0) * half).round().clamp(0.0, float(self.levels)) / half - 1.0

    def fingerprint(self) -> str:
        """16 hex digits over shape, values and labels."""
        digest = hashlib.sha256(f"{self.shape}/{len(self)}/{self.levels}".encode())
        digest.update(self.examples.cpu().contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


class Batches:
    """Endless shuffled batches: example i is number i mod N of the permutation of epoch i div N."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.flips = Stream(seed, "data/flip")
        self._epochs: dict[int, Tensor] = {}

    def get(self, first: int, count: int) -> Tensor:
        """x0 float32 [count, ...] in [-1, 1] of the global examples first, first + 1, ..."""
        examples = self.dataset.examples
        x0 = self.dataset.scaled(examples[self.rows(first, count)])
        if self.dataset.flip:
            index = torch.arange(first, first + count, device=examples.device)
            mirrored = self.flips.coin(index).reshape(-1, *([1] * (x0.ndim - 1)))
            x0 = torch.where(mirrored, x0.flip(-1), x0)
        return x0

    def labels(self, first: int, count: int) -> Tensor | None:
        """Labels [count] of the same examples, if the data has any."""
        if self.dataset.labels is None:
            return None
        return self.dataset.labels[self.rows(first, count)]

    def rows(self, first: int, count: int) -> Tensor:
        """Rows of the data set that those examples read [count]; every epoch visits each row once."""
        size, stop = len(self.dataset), first + count
        epochs = range(first // size, (stop - 1) // size + 1)
        self._epochs = {epoch: self._permutation(epoch) for epoch in epochs}
        parts = [
            order[max(first - epoch * size, 0) : stop - epoch * size]
            for epoch, order in self._epochs.items()
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch in self._epochs:
            return self._epochs[epoch]
        generator = torch.Generator().manual_seed(derive(self.seed, f"data/order/{epoch}"))
        order = torch.randperm(len(self.dataset), generator=generator)
        return order.to(self.dataset.examples.device)
