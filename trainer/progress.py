"""How far is a training, and when is a point of its loss curve due? What a checkpoint holds besides tensors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.trial import TrialSpec


@dataclass
class Progress:
    """What a checkpoint holds besides tensors."""

    images: int = 0
    started_s: float = field(default_factory=time.time)
    """Unix time of the first training step."""
    seconds: float = 0.0
    """Wall seconds of training; neither evaluation nor checkpoints."""
    eval_seconds: float = 0.0
    window: list[float] = field(default_factory=list)
    """Batch losses since the last point of the loss curve."""
    series: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Points of the loss curve since the last report."""


def log_every(trial: TrialSpec) -> int:
    """Images between points of the loss curve, a multiple of the batch."""
    batch, total = trial.train.batch_size, trial.total_images()
    wanted = 1000 * trial.train.log_every_kimg if trial.train.log_every_kimg else total / 100
    return max(1, round(wanted / batch)) * batch
