"""Which learning rates did a real training apply? Read off the optimizer at each of its updates."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from trainer.loop import train
from trainer.trial import TrialSpec


def applied_rates(values: dict[str, Any], updates: int, directory: Path) -> list[float]:
    """Rates of the first `updates` updates of the trial `values`, whose budget they are."""
    values = copy.deepcopy(values)
    values["train"]["kimg"] = updates * values["train"]["batch_size"] / 1000
    values["evaluation"] |= {"evaluations": 1, "rung": None}
    rates: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups = {float(group["lr"]) for group in optimizer.param_groups}
        assert len(groups) == 1
        rates.extend(groups)

    handle = register_optimizer_step_pre_hook(note)
    try:
        trial = TrialSpec.model_validate(values)
        list(train(trial, directory / "trial", cache=directory / "cache", device="cpu"))
    finally:
        handle.remove()
    assert len(rates) == updates
    return rates
