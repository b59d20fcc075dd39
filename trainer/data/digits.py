"""Real data that needs no download: scikit-learn's handwritten digits."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.base import DataSpec
from trainer.data.source import Resident, Source, digest
from trainer.errors import DataError
from trainer.files import made_once
from trainer.lazily import torch
from trainer.spec import Neutral

CONTENT = "01f2d3c1c00149cc"
"""Fingerprint of the published digits: known, so that naming a trial needs no reading."""


class Digits(DataSpec):
    """1,797 handwritten digits of the UCI repository, 8 x 8 pixels of 17 grey levels, shipped in scikit-learn."""

    without_test: ClassVar[str] = "data.split: all leaves no test split: write train"

    kind: Literal["digits"] = "digits"
    split: Annotated[Literal["all", "train", "test"], Neutral("all")] = "all"
    """Every fifth digit is of the split `test`, the others of `train`; all: there is no test split."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""
        return (1, 8, 8)

    @property
    def levels(self) -> int:
        """Of 17 values."""
        return 16

    def load(self, root: Path, cache: Path | None = None) -> Source:
        """Images [1797, 1, 8, 8] and labels 0..9; 1438 of `train`, 359 of `test`."""
        content = _table() if cache is None else made_once(cache / "digits.npy", _table)
        table = torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
        images, labels = table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].long()
        if digest(images, labels) != CONTENT:
            raise DataError(
                "data: scikit-learn has other digits than the published ones: reinstall scikit-learn"
                + (f" and remove {cache / 'digits.npy'}" if cache is not None else "")
            )
        if self.split != "all":
            mine = (torch.arange(len(labels)) % 5 == 4) == (self.split == "test")
            images, labels = images[mine], labels[mine]
        name = self.fingerprint(root)
        return Resident.of(images.contiguous(), labels, levels=self.levels, fingerprint=name)

    def fingerprint(self, root: Path, cache: Path | None = None) -> str:
        """The known one, and that of the split; `load` checks the content."""
        if self.split == "all":
            return CONTENT
        return hashlib.sha256(f"{CONTENT}/{self.split}".encode()).hexdigest()[:16]

    def held_out(self, root: Path, cache: Path | None = None) -> DataSpec | None:
        """Every fifth digit, beside the split `train`."""
        return self.model_copy(update={"split": "test"}) if self.split == "train" else None


ShippedData = Digits
"""The members of this file: a new set that a package ships is one class above and one name here."""


def _table() -> bytes:
    """uint8 [1797, 65], the pixels and the label, as a .npy file."""
    file = io.BytesIO()
    np.save(file, _shipped().astype(np.uint8))
    return file.getvalue()


def _shipped() -> NDArray[np.float64]:
    """What `load_digits` reads, from the same file where it lies: scikit-learn takes a second to import."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        shipped = Path(folder, "datasets", "data", "digits.csv.gz")
        if shipped.is_file():
            return np.loadtxt(shipped, delimiter=",", ndmin=2)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.concatenate([bunch.data, bunch.target[:, None]], 1)
