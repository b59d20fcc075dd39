"""How much a trial occupies."""

from service.resources import Resources


def test_how_many_trials_fit_side_by_side() -> None:
    assert Resources(workers=1, cpus=1, gpus=0).at_once(cpus=4, gpus=0) == 4
    assert Resources(workers=2, cpus=1, gpus=0.5).at_once(cpus=16, gpus=2) == 2
    assert Resources(workers=1, cpus=0.1, gpus=0).at_once(cpus=1, gpus=0) == 10
