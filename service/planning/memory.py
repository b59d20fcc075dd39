"""What do an experiment's trials need of a GPU? Measured on this machine, and put into the experiment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ServiceError
from service.shares import NO_GPU, Measured, Shares, levelled, lines, with_share
from trainer.lazily import torch
from trainer.memory import ran_out, release

if TYPE_CHECKING:
    from service.experiment import Cell, Experiment
    from service.settings import Settings
    from trainer.trial import TrialSpec

_MODEL = re.compile(r"\w+\s+((?:[A-Z]+\s+)*[A-Z0-9]*\d[A-Z0-9]*)")


def card_of(name: str) -> str:
    """`H100` of `NVIDIA H100 80GB HBM3`: what Ray calls a GPU of that name."""
    found = _MODEL.match(name)
    model = "" if found is None else found[1].replace(" ", "-")
    return model if len(model) > 1 else name.removeprefix("NVIDIA ").strip().replace(" ", "-")


def measure(trial: TrialSpec, data_root: Path, cache: Path, workers: int) -> Measured | None:
    """What one of so many workers takes of the first GPU that torch sees; None where it sees none.

    All of it, where that is too little. Raises what a training raises.
    """
    if not torch.cuda.is_available():
        return None
    from trainer.gpu_memory import most_bytes

    device = torch.device("cuda")
    total = torch.cuda.get_device_properties(device).total_memory
    card = card_of(torch.cuda.get_device_name(device))
    torch.backends.cudnn.deterministic = True  # as in a training
    source = trial.data.load(data_root, cache)
    try:
        taken = most_bytes(trial, source, device, cache=cache, data_root=data_root, workers=workers)
        return Measured(taken, total, card)
    except Exception as error:
        if not ran_out(error):
            raise
        return Measured(total, total, card)
    finally:
        release(device)


def apply(
    experiment: Experiment, shares: Shares, found: Mapping[str, Measured] | None
) -> tuple[Experiment, list[str]]:
    """The experiment with the shares that were measured, kept for who asks later, and what is said of them.

    `found` is by cell; None says that there is no GPU. ServiceError where a budget counts GPU-hours then.
    """
    given = levelled({name: one.share for name, one in (found or {}).items()})

    def with_its(cell: Cell) -> Cell:
        if not cell.asked.is_auto:
            return cell
        share = given.get(cell.name, 0.0)
        shares.use(cell, share)
        return with_share(cell, share)

    placed, budget = experiment.placed(with_its), experiment.spec.budget
    if found is not None:
        return placed, lines(placed.cells, found)
    if budget is not None and budget.gpu_hours and not any(one.gpus for one in placed.shapes):
        raise ServiceError(
            f"there is no GPU, and the budget is {budget.label()}", "set budget: {cpu_hours: ...}"
        )
    return placed, [NO_GPU]


def placed_here(experiment: Experiment, settings: Settings) -> tuple[Experiment, list[str]]:
    """The experiment as it would run on this machine, and what is said of its shares of a GPU.

    Where RAY_ADDRESS names a cluster, and this machine has no GPU, what was measured there last stands.
    """
    cells = [cell for cell in experiment.cells if cell.asked.is_auto]
    if not cells:
        return experiment, []
    shares = Shares(settings.cache)
    if not torch.cuda.is_available():
        if settings.ray_address is None:
            return apply(experiment, shares, None)
        return experiment, ["auto: not measured here: ask the cluster's GPUs with --address"]
    card, found = card_of(torch.cuda.get_device_name()), dict[str, Measured]()
    for cell in cells:
        one = shares.of(cell, card)
        if one is None:
            workers = cell.choices[0].workers
            one = measure(cell.trial, experiment.data_root, settings.cache, workers)
            assert one is not None, "there is a GPU"
            shares.keep(cell, one)
        found[cell.name] = one
    return apply(experiment, shares, found)
