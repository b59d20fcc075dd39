"""What is planned while something is not chosen yet? A precision: fp32."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.precisions import asking
from trainer.calibrating import in_precision

if TYPE_CHECKING:
    from service.experiment import Experiment


def assumed(experiment: Experiment) -> tuple[Experiment, list[str]]:
    """As it is planned: in float32 while nothing is chosen, with a line that says so."""
    if not asking(experiment.cells):
        return experiment, []
    as_is = experiment.placed(lambda cell: replace(cell, trial=in_precision(cell.trial, "fp32")))
    return as_is, ["train.precision: auto: chosen when it is run; planned in fp32 until then"]
