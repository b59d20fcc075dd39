"""Does a network fit on a device at all? What its weights take, whatever the batch is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.lazily import torch
from trainer.memory import capacity, device_text, gib

if TYPE_CHECKING:
    from trainer.data import Source
    from trainer.trial import TrialSpec

_SIZES = ("width", "depth", "channels", "blocks", "config")
"""Fields of networks that decide how many weights there are."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training before its first image."""

    parameters: int
    weights: float
    optimizer: float
    averages: float

    @classmethod
    def of(cls, trial: TrialSpec, shape: tuple[int, ...]) -> Footprint | None:
        """Of the trial's network for data of `shape`, counted on shapes; None where it needs more than those."""
        from trainer.learner import build_network

        with contextlib.suppress(Exception), torch.device("meta"):
            count = sum(p.numel() for p in build_network(trial, shape).parameters())
            weights = 4.0 * count
            kept = weights * trial.optimizer.kept()
            return cls(count, weights, kept, weights * len(trial.averages()))
        return None

    @property
    def whole(self) -> float:
        """With the gradients, which are as large as the weights."""
        return 2.0 * self.weights + self.optimizer + self.averages

    def text(self) -> str:
        """`1,234 parameters take 1.0 GiB (weights 0.2 GiB, ...)`."""
        parts = {
            "weights": self.weights,
            "gradients": self.weights,
            "optimizer": self.optimizer,
            "averages": self.averages,
        }
        each = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
        return f"{self.parameters:,} parameters take {gib(self.whole)} ({each})"


def too_many(images: int, trial: TrialSpec, source: Source) -> str:
    """Why a training pass over so many images does not fit, and what to lower."""
    if images == 1:
        return too_large(trial, source)
    return (
        f"in training, {images} images in a pass, on {device_text(source.device)}: "
        "let it be halved (on_oom: halve_microbatch), or lower train.microbatch"
    )


def too_large(trial: TrialSpec, source: Source) -> str:
    """Why a training does not fit however small its passes are, and what to lower."""
    found = Footprint.of(trial, source.codec.shape)
    size = "" if found is None else f": {found.text()} before the first image"
    is_small = found is not None and 2 * found.whole < capacity(source.device)
    what = "not even one image fits beside the network" if is_small else "the network does not fit"
    ways = [f"model.{name}" for name in _SIZES if name in type(trial.model).model_fields]
    advice = [f"lower {' or '.join(ways)}" if ways else "choose a smaller model"]
    if len(trial.averages()) > 1:
        advice.append("have fewer averages (ema)")
    if not trial.train.checkpointing:
        advice.append("set train.checkpointing: true")
    return (
        f"on {device_text(source.device)}: {what}{size}; {', '.join(advice)}, "
        "or use a larger device"
    )


def too_many_at_once(trial: TrialSpec, source: Source) -> str:
    """Why an evaluation does not fit, and what to lower."""
    images = trial.evaluation.batch_size
    if images == 1:
        return too_large(trial, source)
    return (
        f"in evaluation, {images} images at once, on {device_text(source.device)}: lower evaluation.batch_size; "
        "what was trained is kept"
    )
