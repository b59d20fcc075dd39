"""Real data that needs no download: scikit-learn's handwritten digits."""

from pathlib import Path
from typing import Literal

import torch

from trainer.data.dataset import Dataset
from trainer.spec import Spec


class Digits(Spec):
    """1,797 handwritten digits of the UCI repository, 8 x 8 pixels of 17 grey levels, shipped in scikit-learn."""

    kind: Literal["digits"] = "digits"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""
        return (1, 8, 8)

    def load(self, root: Path) -> Dataset:
        """Images [1797, 1, 8, 8] and labels 0..9."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = torch.from_numpy(bunch.images).to(torch.uint8)[:, None]
        return Dataset(images, torch.from_numpy(bunch.target).long(), levels=16)

    def fingerprint(self, root: Path) -> str:
        """Digest of the values."""
        return self.load(root).fingerprint()
