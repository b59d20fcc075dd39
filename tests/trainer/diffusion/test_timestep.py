"""Timestep samplers draw from the published densities and their weights are exact.

Golden entries are outputs of the ancestor systems in float64, at rtol 1e-9 unless a wider one says why.
"""

import pytest
import torch

from tests.trainer.diffusion.families import ancestor_schedule, golden, midpoints, tensor
from trainer.diffusion import schedule, timestep, weighting
from trainer.diffusion.log_snr import edm_sigma


def name(entry: dict) -> str:
    return entry["name"].replace("/public", "")


def under_sampler(entry: dict, **fields: bool) -> timestep.P2:
    gamma, k = entry["inputs"]["under_sampler_gamma"], entry["inputs"]["p2_k"]
    return timestep.P2(gamma=gamma, k=k, **fields)


@pytest.mark.parametrize("entry", golden("timestep", "under_sampler", respacing=None), ids=name)
def test_p2_probabilities_and_unbiased_weights(entry: dict) -> None:
    given, out = entry["inputs"], entry["outputs"]
    curve = ancestor_schedule(given["schedule"], given["T"])
    sampler = under_sampler(entry, unbiased=True)
    probability = sampler.probability(curve)
    index = given["indices"]
    torch.testing.assert_close(probability[index], tensor(out["p"]), rtol=1e-9, atol=0.0)
    level = curve.table(given["T"])[index]
    torch.testing.assert_close(
        sampler.importance(level, curve), tensor(out["unbiased_weight"]), rtol=1e-9, atol=0.0
    )
    tenth = float(probability[: given["T"] // 10].sum())
    assert tenth == pytest.approx(out["prob_first_tenth"], rel=1e-9)


@pytest.mark.parametrize("entry", golden("timestep", "under_sampler", respacing=None), ids=name)
def test_p2_importance_sampling_is_the_p2_objective(entry: dict) -> None:
    """Unbiased under-sampling times the P2 weight is constant: mean(w), the ancestors' third form."""
    curve = ancestor_schedule(entry["inputs"]["schedule"], entry["inputs"]["T"])
    sampler = under_sampler(entry, unbiased=True)
    level = curve.table(entry["inputs"]["T"])
    weight = weighting.P2(gamma=sampler.gamma, k=sampler.k).weight(level)
    constant = torch.full_like(level, entry["outputs"]["p2_unbiased_constant_weight"])
    product = weight * sampler.importance(level, curve)
    torch.testing.assert_close(product, constant, rtol=1e-9, atol=0.0)


def test_p2_draws_each_entry_as_often_as_it_says() -> None:
    curve = schedule.Cosine(steps=50)
    sampler = timestep.P2(gamma=1.0)
    drawn = sampler.log_snr(midpoints(200_000), curve)
    share = torch.bincount((curve.time(drawn) * 50).round().long() - 1, minlength=50) / 200_000
    # One part in 200,000 per boundary of the u-grid.
    torch.testing.assert_close(share.double(), sampler.probability(curve), atol=1.1e-5, rtol=0.0)


def test_p2_gamma_0_is_uniform() -> None:
    u = midpoints(1000)
    for curve in (schedule.Cosine(steps=50), schedule.Cosine()):
        ours = timestep.P2(gamma=0.0).log_snr(u, curve)
        uniform = timestep.Uniform().log_snr(u, curve)
        torch.testing.assert_close(ours, uniform, rtol=1e-9, atol=1e-6)


def test_uniform_mix_bounds_the_importance() -> None:
    curve = schedule.LinearBeta(steps=1000)
    sampler = timestep.P2(gamma=1.0, unbiased=True, uniform_mix=0.1)
    assert float(sampler.importance(curve.table(1000), curve).max()) < 10.0


@pytest.mark.parametrize("entry", [golden("timestep", "sigma-density")[0]], ids=name)
def test_lognormal_quantile(entry: dict) -> None:
    given = entry["inputs"]
    sampler = timestep.LogNormal(mean=given["loc"], std=given["scale"])
    # The ancestor squeezes u by 1e-7 at both ends to avoid infinities.
    u = tensor(given["u"]) * (1.0 - 2e-7) + 1e-7
    drawn = edm_sigma(sampler.log_snr(u, schedule.Cosine()))
    torch.testing.assert_close(drawn, tensor(entry["outputs"]["sigma"]), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("entry", golden("timestep", "stratified", group=1), ids=name)
def test_stratified_draws_are_one_per_slice(entry: dict) -> None:
    """The ancestor's slices for 3 groups of 8 are our slices for a global batch of 24."""
    u, count = tensor(entry["inputs"]["u"]), 8 * entry["inputs"]["groups"]
    place = torch.arange(8) * entry["inputs"]["groups"] + entry["inputs"]["group"]
    ours = timestep.spread(u, place, count, "stratified")
    torch.testing.assert_close(ours, tensor(entry["outputs"]["u"]), rtol=1e-12, atol=0.0)
