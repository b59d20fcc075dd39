"""Which trials does an experiment consist of? Answered without Ray and without training."""

from service.experiment.cell import Cell
from service.experiment.criterion import Compare
from service.experiment.experiment import Experiment
from service.experiment.planned import PlannedTrial
from service.experiment.saved import read_named
from service.experiment.spec import ExperimentSpec
from service.resources import Resources

Experiment.by_name = read_named

__all__ = [
    "Cell",
    "Compare",
    "Experiment",
    "ExperimentSpec",
    "PlannedTrial",
    "Resources",
]
