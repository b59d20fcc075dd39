"""Can the network of a trial be built for its data, and does a machine hold it? Found out without memory."""

from __future__ import annotations

from trainer.errors import UserError
from trainer.trial import TrialSpec
from trainer.yaml.keys import Keys
from trainer.yaml.wording import leading_path

MOST_PARAMETERS = 1e11
"""Weights, gradients and moments of so many fill twenty of the largest GPUs."""


def misfit(trial: TrialSpec) -> tuple[Keys, str] | None:
    """Where and why the network cannot be built for the data."""
    import torch

    from trainer.learner import build_network

    try:
        with torch.device("meta"):
            network = build_network(trial, trial.data.shape)
    except UserError as error:
        return leading_path(TrialSpec, trial.model_dump(mode="json"), str(error))
    except (RuntimeError, OverflowError, MemoryError):  # sizes that overflow
        return ("model",), "is too large to be built: write smaller widths, channels or depths"
    count = sum(weight.numel() for weight in network.parameters())
    if count > MOST_PARAMETERS:
        message = (
            f"has {count:.2g} parameters, more than {MOST_PARAMETERS:.0g}, which no machine trains"
        )
        return ("model",), f"{message}: write smaller widths, channels or depths"
    return None
