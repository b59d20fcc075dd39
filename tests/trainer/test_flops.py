"""Proves: the work of an image is what the layers' formulas say, and counting it changes nothing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.objective import NETWORKS, trial
from trainer.distributed import World
from trainer.flops import flops_per_image
from trainer.training import Training


class Small(nn.Module):
    """Two layers of known cost."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor, condition: Tensor, vector: Tensor | None = None) -> Tensor:
        told = 0.0 if vector is None else vector.sum()
        return self.last(self.first(x)) + condition[:, None, None, None] + told


def test_convolutions_cost_what_they_cost() -> None:
    """Forward 2 K N; backward the same for the weights, and once more for the input, of all but the first layer."""
    first, last = 2 * 27 * 8 * 16 * 16, 2 * 8 * 3 * 16 * 16
    assert flops_per_image(Small(), (3, 16, 16)) == 2 * first + 3 * last
    assert flops_per_image(Small(), (3, 16, 16), vector=5) == 2 * first + 3 * last


def test_a_network_that_reads_its_numbers_is_not_counted() -> None:
    class Reading(Small):
        def forward(self, x: Tensor, condition: Tensor, vector: Tensor | None = None) -> Tensor:
            return super().forward(x, condition * float(x.max()))

    assert flops_per_image(Reading(), (3, 16, 16)) is None


@pytest.mark.parametrize("name", list(NETWORKS))
def test_counting_leaves_the_training_as_it_was(name: str) -> None:
    spec = trial(NETWORKS[name])
    training = Training(spec, spec.data.load(Path()), World(0, 1))
    weights = {n: p.clone() for n, p in training.average.network.state_dict().items()}
    random = torch.get_rng_state()
    found = training.flops_per_image()
    assert found is not None
    parameters = sum(p.numel() for p in training.learner.parameters())
    assert found > 4 * parameters, "each weight is used at least once on both ways"
    assert torch.equal(random, torch.get_rng_state())
    after = training.average.network.state_dict()
    assert all(torch.equal(value, after[n]) for n, value in weights.items())
