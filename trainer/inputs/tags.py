"""Which of many attributes does an image have? Any number of them at once, as CelebA's forty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PrivateAttr

from trainer.bounds import MANY, Count
from trainer.data import Codec, Source
from trainer.errors import DataError, UserError
from trainer.inputs.base import Batch, Conditions, Hiding, NetworkInput
from trainer.lazily import torch
from trainer.randomness import Stream

if TYPE_CHECKING:
    from torch import Tensor


KEPT = 4096
"""Examples whose tags go with a checkpoint, for samples where the data set is absent."""


class Tags(NetworkInput):
    """The tags of an example, +1 where it has one and -1 where not; all 0 stands for "not told" (v-diffusion's CelebA).

    Sample i has the tags of row i of the data.
    """

    kind: Literal["tags"] = "tags"
    count: Count
    """Tags that the data has."""
    dropout: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of examples whose tags are hidden in training, as classifier-free guidance needs (0.1 is usual)."""
    _source: Source | None = PrivateAttr(None)

    def vector(self) -> int:
        """One entry for each."""
        return self.count

    def check(self, source: Source) -> None:
        """The data must have just these."""
        names = source.codec.tags
        if names is None:
            raise UserError(
                "inputs: tags: the data has no tags; use data that has (CelebA's attributes), or leave the input out"
            )
        if len(names) != self.count:
            raise UserError(f"inputs: tags.count: {self.count}, but the data has {len(names)} tags")

    def hiding(self) -> Hiding:
        """Its dropout, of all tags at once."""
        return Hiding("tags", "inputs: tags.dropout", self.dropout)

    def tags_kept(self) -> int:
        """Those of the first examples."""
        return KEPT

    def live(self, source: Source) -> Tags:
        """The same, whose samples have the tags of the rows of `source`."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def trained(self, batch: Batch) -> Conditions:
        """The examples' tags, hidden at random."""
        assert batch.tags is not None, "checked"
        u = Stream(batch.seed, "train/tag_dropout").uniform(batch.index)
        return {"vector": torch.where((u < self.dropout)[:, None], 0.0, _signs(batch.tags))}

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """Those of row i, for sample i. Raises DataError without the data."""
        if self._source is None:
            raise DataError(
                "inputs: tags: samples have the tags of the data's examples, and the data set is not here: load it"
            )
        return {"vector": _of_rows(self._source, numbers % len(self._source))}

    def known(self, source: Source, rows: Tensor, noise_seed: int) -> Conditions:
        """Their tags."""
        return {"vector": _of_rows(source, rows)}

    def hidden(self, conditions: Conditions) -> Conditions:
        """Not told."""
        return {"vector": torch.zeros_like(conditions["vector"])}


class ChosenTags(Tags):
    """Tags that somebody asked for, instead of those of the data's examples; for generation alone."""

    chosen: tuple[Annotated[int, Field(ge=0, lt=MANY)], ...]
    """Those that every sample has; it has none of the others."""

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """The same for all."""
        signs = torch.full((self.count,), -1.0, device=numbers.device)
        signs[list(self.chosen)] = 1.0
        return {"vector": signs.expand(len(numbers), -1)}


TagInputs = Tags
"""The members of this file: a new input of attributes is one class above and one name here."""


def _of_rows(source: Source, rows: Tensor) -> Tensor:
    tags = source.tags_of(rows)
    assert tags is not None, "checked"
    return _signs(tags)


def _signs(tags: Tensor) -> Tensor:
    """1 where an example has a tag, else -1: float32 [B, K]."""
    return 2.0 * tags.float() - 1.0
