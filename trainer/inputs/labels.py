"""The label of an example: the input of every network with `model.classes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trainer.bounds import MANY, Count
from trainer.data import Codec, Source
from trainer.diffusion.guidance import LabelDropout
from trainer.errors import UserError
from trainer.inputs.base import Batch, Conditions, Hiding, NetworkInput
from trainer.lazily import torch
from trainer.randomness import Stream

if TYPE_CHECKING:
    from torch import Tensor


class Labels(NetworkInput):
    """Labels 0..classes-1; `classes` stands for "no label" (`model.classes` and `train.label_dropout` make it)."""

    classes: Count
    """Labels that the network knows."""
    rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of labels hidden in training, so that one network learns both (Ho & Salimans 2022)."""

    def check(self, source: Source) -> None:
        """The data must have labels, and no more of them than the network knows."""
        classes = source.codec.classes
        if classes is None:
            raise UserError(
                "model.classes: the data has no labels: put images into one sub-folder per class, or leave "
                "classes out"
            )
        if classes > self.classes:
            raise UserError(
                f"model.classes: {self.classes} is too few, the data has {classes} classes"
            )

    def hiding(self) -> Hiding:
        """Its rate."""
        return Hiding("label", "train.label_dropout", self.rate)

    def remarks(self, source: Source) -> list[str]:
        """Labels that the data never shows are rows of the table that nothing trains."""
        counts = source.codec.label_counts or ()
        never = [number for number in range(self.classes) if not sum(counts[number : number + 1])]
        if not never:
            return []
        some = ", ".join(map(str, never[:8])) + (", ..." if len(never) > 8 else "")
        way = (
            f"set it to {len(counts)}"
            if never[0] == len(counts)
            else "number the labels without gaps"
        )
        return [
            f"model.classes: {self.classes}, but the data never shows the label{'s' * (len(never) > 1)} {some}: what "
            f"the network knows of {'them' if len(never) > 1 else 'it'} stays as it began; {way}"
        ]

    def trained(self, batch: Batch) -> Conditions:
        """The examples' labels, hidden at random."""
        assert batch.labels is not None, "checked"
        u = Stream(batch.seed, "train/label_dropout").uniform(batch.index)
        return {"labels": LabelDropout(rate=self.rate).apply(batch.labels, u, self.classes)}

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """Drawn as often as the data has them."""
        return {"labels": codec.label(Stream(noise_seed, "generate/label").uniform(numbers))}

    def known(self, source: Source, rows: Tensor, noise_seed: int) -> Conditions:
        """Their labels."""
        labels = source.labels_of(rows)
        if labels is None:
            raise UserError(
                "data: the likelihood of images is asked of a network with labels, and they have none: label them, or "
                "leave bpd and nll out"
            )
        return {"labels": labels}

    def hidden(self, conditions: Conditions) -> Conditions:
        """No label."""
        return {"labels": torch.full_like(conditions["labels"], self.classes)}


class ChosenLabels(Labels):
    """Labels that somebody asked for, instead of the data's own frequencies; for generation alone."""

    chosen: Annotated[tuple[Annotated[int, Field(ge=0, lt=MANY)], ...], Field(min_length=1)]
    """Sample i has entry i, from the front again where they end."""

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """By number."""
        chosen = torch.tensor(self.chosen, device=numbers.device)
        return {"labels": chosen[numbers % len(chosen)]}
