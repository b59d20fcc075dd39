"""Real data that needs no download: scikit-learn's handwritten digits."""

import importlib.util
from pathlib import Path
from typing import Literal

import numpy as np
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
        table = torch.from_numpy(_table()).long()
        images = table[:, :64].reshape(-1, 1, 8, 8).to(torch.uint8)
        return Dataset(images, table[:, 64].clone(), levels=16)

    def fingerprint(self, root: Path) -> str:
        """Digest of the values."""
        return self.load(root).fingerprint()


def _table() -> np.ndarray:
    """[1797, 65]: the pixels and the label. Read from scikit-learn's file, whose import takes seconds."""
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.exists():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.concatenate([bunch.data, bunch.target[:, None]], 1)
