"""How does a training begin with another's weights? What fits by name and shape is taken, and the rest is named."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trainer.errors import CheckpointError, UserError
from trainer.models import AnyModel, UNet
from trainer.record import Record
from trainer.start import digest
from trainer.training import Training

_LISTED = 6
_TOUCHING = ("inward.", "norm.", "outward.")
"""Parts of a U-Net that stand between the image and its finest level."""


def begin(training: Training) -> list[str]:
    """Take the weights of `start_from`, if there is one; returns what fitted and what did not.

    Optimizer and averages start fresh, from there. Raises CheckpointError where the weights are gone or others,
    UserError where nothing fits.
    """
    start = training.trial.start_from
    if start is None:
        return []
    record = Record(start.directory)
    trial = record.trial() if start.directory.is_dir() else None
    state = None if trial is None else record.newest_state(torch.device("cpu"))[0]
    if trial is None or state is None:
        raise CheckpointError(
            f"start_from.trial: {start.directory} holds no trained model on this machine: copy it there"
        )
    weights: dict[str, Tensor] = state["average"]
    if digest(weights) != start.weights:
        raise CheckpointError(
            f"start_from.trial: {start.directory} holds other weights than when this trial was named (it trained "
            "on?): start from a trial that is done, and name it again"
        )
    own = training.learner.network.state_dict()
    fits = _fitting(weights, own, _between(trial.model, training.trial.model))
    if not any(name in own for name in fits):
        raise UserError(
            f"start_from.trial: no weight of {start.directory} fits this network by name and shape: use a network "
            "of the same kind and layout (skip_stages: 1 is one level less)"
        )
    network = training.learner.network
    network.load_state_dict({name: weights[name] for name in fits}, strict=False)
    for average in (training.average, *training.further):
        average.network.load_state_dict(network.state_dict())
    images = int(state["progress"]["images"])
    line = f"start_from: {len(fits)} of {len(own)} weights are those of {start.directory.name} ({images / 1000:g} kimg)"
    new, unused = own.keys() - fits, weights.keys() - fits
    told = [f"new here: {_listed(new)}"] * bool(new) + [f"not used: {_listed(unused)}"] * bool(
        unused
    )
    return ["; ".join([line, *told])]


def _fitting(
    weights: dict[str, Tensor], own: dict[str, Tensor], besides: tuple[str, ...]
) -> set[str]:
    """Names that both have in one shape, but those that begin as `besides`."""
    both = weights.keys() & own.keys()
    return {n for n in both if weights[n].shape == own[n].shape and not n.startswith(besides)}


def _between(before: AnyModel, now: AnyModel) -> tuple[str, ...]:
    """Parts that are made again although they may fit: with other stages, the image enters at another level."""
    if not isinstance(before, UNet) or not isinstance(now, UNet):
        return ()
    same = (before.skip_stages, before.patch) == (now.skip_stages, now.patch)
    return () if same else _TOUCHING


def _listed(names: Iterable[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more
