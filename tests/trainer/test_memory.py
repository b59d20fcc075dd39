"""Proves that freed memory stays with the process until it is given back, and that in-place answers are equal."""

import resource
import sys

import pytest
import torch

from trainer.memory import keep_freed, release
from trainer.models import UNet

CPU = torch.device("cpu")


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_stays_until_it_is_given_back() -> None:
    def take() -> int:
        before = faults()
        for _ in range(20):
            torch.empty(1 << 21).fill_(1.0)  # 8 MiB: 2,048 pages
        return faults() - before

    keep_freed(CPU)
    take()
    assert take() < 200
    release(CPU)
    assert take() > 1000


def test_without_gradients_a_network_computes_in_place_the_same() -> None:
    """To the bit, in both precisions: what is kept for gradients is all that differs."""
    torch.manual_seed(0)
    for spec in (
        UNet(channels=(16, 32), blocks=1),
        UNet(channels=(16, 32), blocks=1, layout="ddpm", attention=(1,)),
    ):
        network = spec.build((3, 8, 8)).eval()
        for parameter in network.parameters():
            parameter.data.normal_(0.0, 0.1)
        x, condition = torch.randn(5, 3, 8, 8), torch.rand(5)
        before = x.clone()
        for half in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                kept = network(x, condition)
                with torch.inference_mode():
                    assert torch.equal(network(x, condition), kept)
        assert torch.equal(x, before)
