"""Can the network of a trial be built for its data, does a machine hold it, and is there anything to learn?

Found out without memory, and once for cells that are alike in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.experiment.answers import Answers
from trainer.errors import UserError
from trainer.spec import Spec
from trainer.trial import TrialSpec
from trainer.yaml.faults import Fault
from trainer.yaml.keys import Keys
from trainer.yaml.wording import leading_path

MOST_PARAMETERS = 1e11
"""Weights, gradients and moments of so many fill twenty of the largest GPUs."""


class Fitting:
    """What is found of the trials of one experiment."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._known: dict[tuple[str, ...], Fault | None] = {}

    def fault(self, trial: TrialSpec) -> Fault | None:
        """Where and why it cannot be trained."""
        parts = [part.digest() for part in (trial.model, trial.data, *trial.network_inputs())]
        channels = trial.diffusion.output_channels(trial.data.shape[0])
        return self._ask("fits", [*parts, str(channels)], lambda: misfit(trial)) or self._ask(
            "learns", [trial.diffusion.digest()], lambda: nothing_to_learn(trial)
        )

    def _ask(self, question: str, of: list[Spec | str], compute: Callable[[], Any]) -> Fault | None:
        key = (question, *map(str, of))
        if key not in self._known:
            found = self._answers.ask(question, of, compute)
            self._known[key] = None if found is None else Fault(tuple(found[0]), found[1])
        return self._known[key]


def nothing_to_learn(trial: TrialSpec) -> tuple[Keys, str] | None:
    """Where and why the objective leaves a network nothing to learn."""
    from trainer.diffusion.passport import untrainable

    why = untrainable(trial.diffusion)
    return None if why is None else leading_path(TrialSpec, trial.model_dump(mode="json"), why)


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
