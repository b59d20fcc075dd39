"""Proves the averages against their closed forms."""

import copy

import pytest
import torch
from torch import nn

from trainer.ema import Average, Constant, InversePower, Ramp


def test_published_decays() -> None:
    assert [Ramp(decay=0.9999).at(n) for n in (1, 2, 90)] == [2 / 11, 3 / 12, 91 / 100]
    assert Ramp(decay=0.5).at(1000) == 0.5
    assert Constant(decay=0.9).at(7) == 0.9
    # k-diffusion: get_value of its step k is 1 - (1 + k)^-power; its first update copies the model
    assert InversePower(power=1.0).at(1) == 0.0
    assert InversePower(power=1.0).at(4) == pytest.approx(0.75)
    assert InversePower(decay=0.5).at(10**6) == 0.5
    late = InversePower(power=1.0, least=0.25, start=3)
    assert [late.at(n) for n in (1, 4, 5, 7)] == [0.25, 0.25, 0.5, 0.75]
    with pytest.raises(ValueError, match="least must not exceed decay"):
        InversePower(least=0.9, decay=0.5)


def test_average_is_the_weighted_sum_of_the_past() -> None:
    network = nn.Linear(3, 2).double()
    average = Average(Constant(decay=0.8), network, copy.deepcopy(network))
    expected = network.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            network.weight.add_(torch.randn(2, 3, generator=torch.Generator().manual_seed(step)))
        average.update()
        expected = 0.8 * expected + 0.2 * network.weight.detach()
    assert average.updates == 20
    # float64, twenty additions
    torch.testing.assert_close(average.network.weight, expected, rtol=1e-13, atol=1e-13)
    assert not average.network.weight.requires_grad


def test_buffers_are_copied() -> None:
    network = nn.BatchNorm1d(2)
    average = Average(Constant(), network, copy.deepcopy(network))
    network(torch.ones(4, 2) * 3.0)
    average.update()
    assert torch.equal(average.network.running_mean, network.running_mean)
