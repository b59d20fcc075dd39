"""Proves that random numbers are pure functions of their address, and that they are random."""

import math

import pytest
import torch
from scipy import stats

from trainer.randomness import _BLOCK, Stream, derive


def test_integers_are_splitmix64() -> None:
    """Published first outputs of SplitMix64 from state 0 (Vigna's splitmix64.c)."""
    stream = Stream(0, "any")
    stream.key = 0
    bits = [value % 2**64 for value in stream.bits(torch.arange(3)).tolist()]
    assert bits == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_numbers_do_not_depend_on_how_they_are_asked_for() -> None:
    stream = Stream(3, "eps")
    whole = stream.normal(torch.arange(100), (3, 5))
    parts = [stream.normal(torch.arange(a, b), (3, 5)) for a, b in ((60, 100), (0, 25), (25, 60))]
    assert torch.equal(whole, torch.cat([parts[1], parts[2], parts[0]]))
    uniform = stream.uniform(torch.arange(100))
    assert torch.equal(uniform[40:41], stream.uniform(torch.tensor([40])))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 5), (2,), (1,), ()])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_normals_are_box_and_muller_of_those_integers_to_the_bit(
    shape: tuple[int, ...], count: int
) -> None:
    """Step by step, as they always were: finished trials hang on every bit."""
    size, index = math.prod(shape), 7 * torch.arange(count) + 2**40
    pairs = (size + 1) // 2
    assert _BLOCK // 1536 < 100, "the largest is made in several blocks"
    bits = Stream(3, "eps").bits(index[:, None] * pairs + torch.arange(pairs))
    upper, lower = (bits >> 32) & 0xFFFFFFFF, bits & 0xFFFFFFFF
    radius = torch.sqrt(-2.0 * torch.log((upper.float() + 0.5) * 2.0**-32))
    turn = lower.float() * (2.0 * math.pi * 2.0**-32)
    values = torch.cat([radius * torch.cos(turn), radius * torch.sin(turn)], 1)[:, :size]
    assert torch.equal(Stream(3, "eps").normal(index, shape), values.reshape(count, *shape))


def test_seeds_and_purposes_are_independent() -> None:
    index = torch.arange(20000)
    draws = [Stream(s, p).normal(index, (1,))[:, 0] for s, p in ((0, "a"), (1, "a"), (0, "b"))]
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(3)
    # 20000 draws: the standard error of a correlation is 0.007
    assert correlation.abs().max() < 5 * 0.0071
    assert derive(0, "a") != derive(0, "b")


def test_uniform_lies_inside_the_open_interval_and_is_uniform() -> None:
    u = Stream(0, "u").uniform(torch.arange(200_000))
    assert float(u.min()) > 0.0
    assert float(u.max()) < 1.0
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    pairs = u[:-1] * u[1:]
    # E[uv] = 1/4 with standard deviation sqrt(7)/12 for independent u, v
    assert abs(float(pairs.mean()) - 0.25) < 5 * (7**0.5 / 12) / len(pairs) ** 0.5


def test_normal_is_normal_also_in_the_tails() -> None:
    z = Stream(0, "z").normal(torch.arange(50_001), (7,)).flatten()
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    # 350,007 draws: expected share beyond 4 is 6.3e-5, about 22 of them
    assert 5 < int((z.abs() > 4).sum()) < 50
    assert z.isfinite().all()


def test_coin_is_fair() -> None:
    heads = Stream(0, "coin").coin(torch.arange(100_000)).float().mean()
    assert abs(float(heads) - 0.5) < 5 * 0.5 / 100_000**0.5
