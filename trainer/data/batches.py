"""Which examples does a training step see? Batches by global example index, the same for any number of workers."""

import torch
from torch import Tensor

from trainer.data.source import Source
from trainer.randomness import Stream, derive


class Batches:
    """Endless shuffled batches: example i is number i mod N of the permutation of epoch i div N."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source = source
        self.seed = seed
        self._flips = Stream(seed, "data/flip")
        self._epochs: dict[int, Tensor] = {}

    def get(self, first: int, count: int) -> Tensor:
        """x0 float32 [count, ...] in [-1, 1] of the global examples first, first + 1, ..."""
        x0 = self.source.codec.scale(self.source.read(self.rows(first, count)))
        mirrored = self.mirrored(first, count)
        if mirrored is not None:
            x0 = torch.where(mirrored.reshape(-1, *([1] * (x0.ndim - 1))), x0.flip(-1), x0)
        return x0

    def mirrored(self, first: int, count: int) -> Tensor | None:
        """Which of these examples are seen mirrored left to right (bool [count]); None: never any."""
        if not self.source.flip:
            return None
        return self._flips.coin(torch.arange(first, first + count, device=self.source.device))

    def labels(self, first: int, count: int) -> Tensor | None:
        """Labels [count] of the same examples, if the data has any."""
        return self.source.labels_of(self.rows(first, count))

    def rows(self, first: int, count: int) -> Tensor:
        """Rows of the data set that those examples read [count]; every epoch visits each row once."""
        size, stop = len(self.source), first + count
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
        order = torch.randperm(len(self.source), generator=generator)
        return order.to(self.source.device)
