"""Whether an image is seen mirrored: flips that do not leak into samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.data import Codec, Source
from trainer.data.base import DataSpec
from trainer.errors import UserError
from trainer.inputs.base import Batch, Conditions, NetworkInput
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class Mirrored(NetworkInput):
    """Tells the network which training images were flipped; samples are told "not" (Karras et al. 2022, appendix F)."""

    kind: Literal["mirrored"] = "mirrored"

    def vector(self) -> int:
        """One entry, 0 or 1."""
        return 1

    def foresee(self, data: DataSpec) -> None:
        """The data must be flipped in training."""
        self._refuse_unless(data.flips)

    def check(self, source: Source) -> None:
        """The same of what was read."""
        self._refuse_unless(source.flip)

    def _refuse_unless(self, flips: bool) -> None:
        if not flips:
            raise UserError(
                "inputs: mirrored tells which images were flipped, and this data is never flipped: "
                "set data.flip: true where the data has that, or leave the input out"
            )

    def trained(self, batch: Batch) -> Conditions:
        """1 where the example is mirrored."""
        assert batch.mirrored is not None, "checked"
        return {"vector": batch.mirrored.float()[:, None]}

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """As photographed."""
        return {"vector": torch.zeros(len(numbers), 1, device=numbers.device)}

    def known(self, source: Source, rows: Tensor, noise_seed: int) -> Conditions:
        """As photographed."""
        return {"vector": torch.zeros(len(rows), 1, device=rows.device)}


VectorInputs = Mirrored
"""The members of this file: a new input is one class above and one name here."""
