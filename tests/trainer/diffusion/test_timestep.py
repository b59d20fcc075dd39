"""Timestep samplers draw from the published densities and their weights are exact.

Golden entries are outputs of the ancestor systems in float64, at rtol 1e-9 unless a wider one says why.
"""

import pytest
import scipy.stats
import torch
from pydantic import ValidationError

from tests.trainer.diffusion.families import ancestor_schedule, golden, members, midpoints, tensor
from trainer.diffusion import schedule, timestep, weighting
from trainer.diffusion.log_snr import edm_sigma
from trainer.diffusion.process import Diffusion
from trainer.diffusion.timestep.history import LossHistory


def name(entry: dict) -> str:
    return entry["name"].replace("/public", "")


def respaced(given: dict) -> schedule.Schedule:
    curve = ancestor_schedule(given["schedule"], given["T"])
    return schedule.Respaced(of=curve, rule=given["respacing"]) if given["respacing"] else curve


def under_sampler(entry: dict, **fields: bool) -> timestep.P2:
    gamma, k = entry["inputs"]["under_sampler_gamma"], entry["inputs"]["p2_k"]
    return timestep.P2(gamma=gamma, k=k, **fields)


@pytest.mark.parametrize("entry", golden("timestep", "under_sampler"), ids=name)
def test_p2_probabilities_and_unbiased_weights(entry: dict) -> None:
    given, out = entry["inputs"], entry["outputs"]
    curve = respaced(given)
    sampler = under_sampler(entry, unbiased=True)
    probability = sampler.probability(curve)
    index = given["indices"]
    torch.testing.assert_close(probability[index], tensor(out["p"]), rtol=1e-9, atol=0.0)
    level = curve.table(curve.steps)[index]
    torch.testing.assert_close(
        sampler.importance(level, curve), tensor(out["unbiased_weight"]), rtol=1e-9, atol=0.0
    )
    tenth = float(probability[: curve.steps // 10].sum())
    assert tenth == pytest.approx(out["prob_first_tenth"], rel=1e-9)


@pytest.mark.parametrize("entry", golden("timestep", "under_sampler"), ids=name)
def test_p2_importance_sampling_is_the_p2_objective(entry: dict) -> None:
    """Unbiased under-sampling times the P2 weight is constant: mean(w), the ancestors' third form."""
    curve = respaced(entry["inputs"])
    sampler = under_sampler(entry, unbiased=True)
    level = curve.table(curve.steps)
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


def density(entry: dict) -> timestep.LevelLaw:
    """Our member for one of k-diffusion's densities."""
    given, kind = entry["inputs"], entry["name"].split("/")[1]
    bounds = {"sigma_min": given.get("min_value"), "sigma_max": given.get("max_value")}
    if bounds["sigma_max"] == "inf":
        bounds["sigma_max"] = None
    if kind.endswith("lognormal") and "scale" in given:
        return timestep.LogNormal(mean=given["loc"], std=given["scale"])
    if kind.startswith("loglogistic"):
        return timestep.LogLogistic(loc=given["loc"], scale=given["scale"], **bounds)
    if kind.startswith("v-diffusion"):
        return timestep.VDiffusion(sigma_data=given["sigma_data"], **bounds)
    if kind == "split-lognormal":
        deviations = {"std_1": given["scale_1"], "std_2": given["scale_2"]}
        return timestep.SplitLogNormal(mean=given["loc"], **deviations)
    if kind == "cosine-interpolated":
        sizes = {f"noise_size_{end}": given[f"noise_d_{end}"] for end in ("low", "high")}
        return timestep.CosineInterpolated(
            image_size=given["image_d"], sigma_data=given["sigma_data"], **sizes, **bounds
        )
    return timestep.LogUniform(**bounds)


SCRIPTED = [
    e
    for e in golden("timestep", "sigma-density")
    if "/scripted" in e["name"] and "split" not in e["name"] and "fork" not in e["name"]
]


@pytest.mark.parametrize("entry", SCRIPTED, ids=name)
def test_k_diffusion_quantiles(entry: dict) -> None:
    u = tensor(entry["inputs"]["u"])
    if "/lognormal" in entry["name"]:
        # The ancestor squeezes u by 1e-7 at both ends to avoid infinities.
        u = u * (1.0 - 2e-7) + 1e-7
    if "/cosine-interpolated" in entry["name"]:
        # Its u = 0 is the noisy end, ours is the clean end for every member.
        u = 1.0 - u
    drawn = edm_sigma(density(entry).log_snr(u, schedule.Cosine()))
    # 1e-8: 1 - u at u = 1e-6 keeps ten digits.
    torch.testing.assert_close(drawn, tensor(entry["outputs"]["sigma"]), rtol=1e-8, atol=0.0)


DRAWN = [e for e in golden("timestep", "sigma-density") if "/quantiles" in e["name"]]


@pytest.mark.parametrize("entry", DRAWN, ids=name)
def test_k_diffusion_draws(entry: dict) -> None:
    """Quantiles, mean and deviation of 100,000 draws, within sampling error; the split law has no other test."""
    law, out = density(entry), entry["outputs"]
    u = tensor(out["probs"])
    log_sigma = -0.5 * law.quantile(u)
    gap = (log_sigma - torch.log(tensor(out["quantiles"]))).abs()
    middle = (u > 0.04) & (u < 0.96)
    assert float(gap[middle].max()) < 0.04
    assert float(gap.max()) < 0.2
    everywhere = -0.5 * law.quantile(midpoints(200_000))
    # Three standard errors of a mean of 1e5 draws.
    assert float(everywhere.mean()) == pytest.approx(
        out["mean_log"], abs=3.0 * out["std_log"] / 316
    )
    assert float(everywhere.std()) == pytest.approx(out["std_log"], rel=0.02)


def test_split_lognormal_with_equal_sides_is_lognormal() -> None:
    u = midpoints(999)
    split = timestep.SplitLogNormal(mean=-0.4, std_1=0.8, std_2=0.8)
    torch.testing.assert_close(
        split.quantile(u), timestep.LogNormal(mean=-0.4, std=0.8).quantile(u)
    )


LAWS = [cls() for cls in members(timestep.AnyTimestepSampler) if issubclass(cls, timestep.LevelLaw)]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_ranks_invert_quantiles(law: timestep.LevelLaw) -> None:
    u = midpoints(999)
    torch.testing.assert_close(law.rank(law.quantile(u)), u, rtol=0.0, atol=1e-9)


TIMES = [
    timestep.LogitNormal(mean=0.3, std=0.7),
    timestep.Mode(),
    timestep.Mode(scale=-0.9),
    timestep.CosMap(),
    timestep.Speed(),
    timestep.Beta(),
    timestep.Beta(alpha=0.4, beta=2.5),
    timestep.Beta(alpha=60.0, beta=40.0),
]


@pytest.mark.parametrize("law", TIMES, ids=lambda law: law.label())
def test_time_ranks_invert_and_integrate(law: timestep.TimeLaw) -> None:
    u = midpoints(999)
    t = law.time_quantile(u)
    torch.testing.assert_close(law.time_rank(t), u, rtol=0.0, atol=1e-8)
    step = 1e-6 * t * (1.0 - t)
    slope = (law.time_rank(t + step) - law.time_rank(t - step)) / (2.0 * step)
    torch.testing.assert_close(slope, law.time_density(t), rtol=2e-3, atol=1e-6)


def test_mode_is_the_papers_map() -> None:
    """f(u) = 1 - u - s (cos^2(pi u/2) - 1 + u), falling in u (Esser et al. 2024, eq. 20)."""
    u = midpoints(99)
    paper = 1.0 - u - 1.29 * (torch.cos(0.5 * torch.pi * u) ** 2 - 1.0 + u)
    torch.testing.assert_close(timestep.Mode().time_quantile(1.0 - u), paper)


def test_speed_is_the_papers_step_function() -> None:
    """k/(T + tau (k - 1)) up to tau and 1/(T + tau (k - 1)) above, on a table of 1000."""
    curve = schedule.LinearBeta(steps=1000)
    factor = timestep.Speed(unbiased=True).importance(curve.table(1000), curve)
    total = 1000.0 + 700.0 * 4.0
    expected = torch.tensor([5.0] * 700 + [1.0] * 300, dtype=torch.float64) / total
    torch.testing.assert_close(1.0 / (1000.0 * factor), expected, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize(("a", "b"), [(1.5, 1.0), (0.4, 2.5), (20.0, 3.0)])
def test_beta_is_the_beta_distribution(a: float, b: float) -> None:
    law, u = scipy.stats.beta(a, b), midpoints(999)
    ours = timestep.Beta(alpha=a, beta=b)
    expected = torch.from_numpy(law.ppf(u.numpy()))
    # 1e-8: Simpson's rule on 2048 cells.
    torch.testing.assert_close(ours.time_quantile(u), expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(
        ours.time_density(expected), torch.from_numpy(law.pdf(expected.numpy()))
    )


def test_known_identities_between_members() -> None:
    """On the straight path logit(t) is log(edm_sigma); cosmap, v-diffusion's law and uniform cosine time are one."""
    u, flow = midpoints(999), schedule.Interpolant()
    pairs = [
        (
            timestep.LogitNormal(mean=-0.3, std=0.9),
            flow,
            timestep.LogNormal(mean=-0.3, std=0.9),
            flow,
        ),
        (timestep.CosMap(), flow, timestep.Uniform(), schedule.GVP()),
        (timestep.VDiffusion(sigma_min=0.0, sigma_max=None), flow, timestep.CosMap(), flow),
        (
            timestep.Laplace(mu=0.4, b=0.7),
            flow,
            timestep.Uniform(),
            schedule.Laplace(mu=0.4, b=0.7),
        ),
        (timestep.Tilted(), schedule.Cosine(steps=50), timestep.P2(), schedule.Cosine(steps=50)),
        (timestep.Speed(k=1.0), flow, timestep.Uniform(), flow),
        (timestep.Mode(scale=0.0), flow, timestep.Uniform(), flow),
        (timestep.Beta(alpha=1.0, beta=1.0), flow, timestep.Uniform(), flow),
    ]
    for one, curve, other, path in pairs:
        torch.testing.assert_close(
            one.log_snr(u, curve), other.log_snr(u, path), rtol=0.0, atol=1e-6
        )


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("P2", {"gamma": -1.0}, "gamma"),
        ("P2", {"uniform_mix": 1.5}, "uniform_mix"),
        ("LogNormal", {"std": 0.0}, "std"),
        ("SplitLogNormal", {"std_2": -1.0}, "std_2"),
        ("LogLogistic", {"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_min must be smaller"),
        ("LogUniform", {"sigma_min": 0.0}, "sigma_min"),
        ("VDiffusion", {"sigma_data": 0.0}, "sigma_data"),
        ("CosineInterpolated", {"noise_size_low": 128}, "noise_size_low must not exceed"),
        ("Mode", {"scale": 1.76}, "scale"),
        ("Mode", {"scale": -1.0}, "scale"),
        ("Beta", {"alpha": 0.0}, "alpha"),
        ("Speed", {"tau": 1.0}, "tau"),
        ("Speed", {"k": float("inf")}, "k"),
        ("Importance", {"unbiased": True}, "leave it false"),
    ],
)
def test_bad_parameters_name_the_field(kind: str, fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        getattr(timestep, kind)(**fields)


@pytest.mark.parametrize(
    "entry", [e for e in golden("timestep", "stratified") if "groups" in e["inputs"]], ids=name
)
def test_stratified_draws_are_one_per_slice(entry: dict) -> None:
    """The ancestor's slices for 3 groups of 8 are our slices for a global batch of 24."""
    u, count = tensor(entry["inputs"]["u"]), 8 * entry["inputs"]["groups"]
    place = torch.arange(8) * entry["inputs"]["groups"] + entry["inputs"]["group"]
    ours = timestep.spread(u, place, count, "stratified")
    torch.testing.assert_close(ours, tensor(entry["outputs"]["u"]), rtol=1e-12, atol=0.0)


def remembered(steps: int, **fields: float) -> tuple[LossHistory, schedule.Schedule]:
    curve = schedule.Cosine(steps=steps)
    return timestep.LossSecondMoment(**fields).build(curve), curve


@pytest.mark.parametrize("entry", golden("timestep", "loss_second_moment"), ids=name)
def test_loss_second_moment_is_the_ancestors(entry: dict) -> None:
    """Warm-up, counts, probabilities and importance weights after the ancestor's own updates."""
    given = entry["inputs"]
    history, uniform = given["history_per_term"], given["uniform_prob"]
    memory, curve = remembered(given["T"], history_per_term=history, uniform_prob=uniform)
    sampler = timestep.LossSecondMoment().live(memory)
    phases = {phase["label"]: phase for phase in entry["outputs"]["phases"]}

    def check(phase: dict) -> None:
        assert bool(memory.warm()) == phase["warmed_up"]
        assert memory.seen.clamp(max=history).tolist() == phase["counts"]
        filled = sum(phase["counts"]) / (history * given["T"])
        assert float(memory.warmup()) == pytest.approx(filled)
        torch.testing.assert_close(memory.probability(), tensor(phase["p"]), rtol=1e-9, atol=0.0)
        factor = sampler.importance(curve.table(given["T"]), curve)
        torch.testing.assert_close(factor, tensor(phase["loss_weights"]), rtol=1e-9, atol=0.0)

    check(phases["initial"])
    for step in given["script"]:
        if "snapshot" in step:
            check(phases[step["snapshot"]])
        else:
            memory.observe(torch.tensor(step["ts"]), tensor(step["losses"]))


@pytest.mark.parametrize("batch", [1, 7, 200])
def test_the_memory_keeps_the_last_losses_in_order(batch: int) -> None:
    """Batches of any size, even with more losses of one entry than it remembers, leave what one by one leaves."""
    generator = torch.Generator().manual_seed(0)
    entry = torch.randint(0, 5, (200,), generator=generator)
    loss = torch.rand(200, generator=generator, dtype=torch.float64)
    memory, _ = remembered(5, history_per_term=4)
    for part, values in zip(entry.split(batch), loss.split(batch), strict=True):
        memory.observe(part, values)
    for k in range(5):
        assert memory.losses[k].sort().values.tolist() == sorted(loss[entry == k][-4:].tolist())
    assert memory.seen.tolist() == torch.bincount(entry, minlength=5).tolist()


def test_loss_second_moment_draws_by_its_memory_and_stays_unbiased() -> None:
    memory, curve = remembered(20, history_per_term=2)
    sampler = timestep.LossSecondMoment().live(memory)
    u, uniform = midpoints(100_000), timestep.Uniform()
    assert torch.equal(sampler.log_snr(u, curve), uniform.log_snr(u, curve))
    size = torch.linspace(1.0, 5.0, 20, dtype=torch.float64)
    for _ in range(2):
        memory.observe(torch.arange(20), size)
    level = sampler.log_snr(u, curve)
    entry = timestep.entry_index(level, curve)
    share = torch.bincount(entry, minlength=20).double() / len(u)
    expected = 0.999 * size / size.sum() + 0.001 / 20
    # 2e-5: two boundaries of the u-grid.
    torch.testing.assert_close(share, expected, rtol=0.0, atol=2e-5)
    weighted = sampler.importance(level, curve) * size[entry]
    assert float(weighted.mean()) == pytest.approx(float(size.mean()), rel=1e-4)
    assert float(weighted.std()) < 0.01 * float(size.std())


def test_loss_second_moment_needs_a_table_and_its_weights() -> None:
    with pytest.raises(ValidationError, match=r"timesteps: .*give schedule\.steps"):
        Diffusion(schedule=schedule.Cosine(), timesteps=timestep.LossSecondMoment())
    with pytest.raises(ValidationError, match="unbiased: must be true"):
        timestep.LossSecondMoment(unbiased=False)
