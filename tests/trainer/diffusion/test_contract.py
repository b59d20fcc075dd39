"""Every member of every family keeps its family's contract: proven on the unions, without training.

A new member is tested here as soon as it is named in its union; nothing has to be registered.
"""

import json
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tests.trainer.diffusion.families import members, midpoints
from trainer.described import described
from trainer.diffusion import log_snr as noise
from trainer.diffusion import prediction, schedule, timestep, weighting
from trainer.spec import Spec

FAMILIES: dict[str, tuple[Any, type[Spec]]] = {
    "schedule": (schedule.AnySchedule, schedule.Schedule),
    "timestep": (timestep.AnyTimestepSampler, timestep.TimestepSampler),
    "weighting": (weighting.AnyWeighting, weighting.Weighting),
    "prediction": (prediction.AnyPrediction, prediction.Prediction),
}
MEMBERS = [(union, cls) for union, _ in FAMILIES.values() for cls in members(union)]
EVERY_MEMBER = pytest.mark.parametrize(
    ("union", "cls"),
    MEMBERS,
    ids=[f"{cls.__module__.split('.')[2]}-{cls().kind}" for _, cls in MEMBERS],
)


def _schedules() -> list[schedule.Schedule]:
    curves: list[schedule.Schedule] = []
    for cls in members(schedule.AnySchedule):
        default = cls()
        curves.append(default)
        if default.steps is None:
            curves.append(cls(steps=100))
    return curves


def _id(spec: Spec) -> str:
    return f"{spec.kind}-{spec.steps}" if isinstance(spec, schedule.Schedule) else spec.kind


SCHEDULES = _schedules()
EVERY_SCHEDULE = pytest.mark.parametrize("curve", SCHEDULES, ids=map(_id, SCHEDULES))
SAMPLERS = [cls() for cls in members(timestep.AnyTimestepSampler)]
EVERY_SAMPLER = pytest.mark.parametrize("sampler", SAMPLERS, ids=map(_id, SAMPLERS))
WEIGHTINGS = [cls() for cls in members(weighting.AnyWeighting)]
EVERY_WEIGHTING = pytest.mark.parametrize("weight", WEIGHTINGS, ids=map(_id, WEIGHTINGS))
PREDICTIONS = [cls() for cls in members(prediction.AnyPrediction)]
EVERY_PREDICTION = pytest.mark.parametrize("meaning", PREDICTIONS, ids=map(_id, PREDICTIONS))
EVERY_DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


# Specs


@EVERY_MEMBER
def test_default_survives_json(union: Any, cls: type[Spec]) -> None:
    spec = cls()
    again = TypeAdapter(union).validate_json(spec.canonical())
    assert again == spec
    assert type(again) is cls
    assert again.digest() == spec.digest()
    assert json.loads(spec.canonical())["kind"] == spec.kind


@EVERY_MEMBER
def test_unknown_keys_are_refused(union: Any, cls: type[Spec]) -> None:
    with pytest.raises(ValidationError, match="no_such_key"):
        TypeAdapter(union).validate_python({"kind": cls().kind, "no_such_key": 1})


@EVERY_MEMBER
def test_every_field_is_described(union: Any, cls: type[Spec]) -> None:
    assert cls in members(union)
    missing = [n for n in cls.model_fields if n != "kind" and not described(cls).get(n)]
    assert not missing
    assert cls.__doc__


def _leaves(cls: type[Spec]) -> set[type[Spec]]:
    below = {leaf for child in cls.__subclasses__() for leaf in _leaves(child)}
    own = {cls} if "kind" in cls.model_fields and cls.__module__.startswith("trainer.") else set()
    return below | own


@pytest.mark.parametrize("family", FAMILIES)
def test_the_union_is_the_only_list(family: str) -> None:
    union, base = FAMILIES[family]
    listed = members(union)
    assert set(listed) == _leaves(base)
    kinds = {cls().kind for cls in listed}
    assert len(kinds) == len(listed)
    assert set(TypeAdapter(union).json_schema()["discriminator"]["mapping"]) == kinds


def test_no_kind_is_called_linear() -> None:
    assert not [cls for _, cls in MEMBERS if cls().kind == "linear"]


# A digest names finished work: it may change only together with the numbers.
DIGESTS = {
    schedule.LinearBeta: "08b27572b5aa689d",
    schedule.Cosine: "087470fa2adb561f",
    schedule.LogLinear: "92ff58d4a626b44f",
    schedule.Interpolant: "7b6db82c6c8b819c",
    timestep.Uniform: "377abbc24e1b12b2",
    timestep.P2: "b534883096e30b8c",
    timestep.LogNormal: "7d4ad1fefdba7f4f",
    weighting.Simple: "484932f837e43522",
    weighting.P2: "021ae8a21f8ef05e",
    weighting.MinSNR: "ab040d0c91c1a649",
    weighting.Velocity: "76ee2f077999a258",
    weighting.EDM: "b94724852ac5698b",
    prediction.Epsilon: "cd653fb6db1c0f23",
    prediction.Data: "62c68d5a435c3507",
    prediction.Velocity: "76ee2f077999a258",
    prediction.Preconditioned: "9a23343d6a45b652",
    prediction.Flow: "c0b6c672ef8be393",
}


@pytest.mark.parametrize("cls", DIGESTS, ids=lambda cls: f"{cls.__module__[18:]}.{cls.__name__}")
def test_digests_of_defaults_are_stable(cls: type[Spec]) -> None:
    assert cls().digest() == DIGESTS[cls]


# Schedules


@EVERY_SCHEDULE
def test_schedule_falls_strictly(curve: schedule.Schedule) -> None:
    level = curve.log_snr(torch.linspace(0.0, 1.0, 1001, dtype=torch.float64))
    inside = level.abs() < schedule.LOG_SNR_LIMIT
    assert torch.isfinite(level).all()
    assert (level[1:] < level[:-1])[inside[1:] | inside[:-1]].all()
    assert int(inside.sum()) > 900


@EVERY_SCHEDULE
def test_time_inverts_log_snr(curve: schedule.Schedule) -> None:
    t = torch.linspace(0.002, 0.998, 499, dtype=torch.float64)
    level = curve.log_snr(t)
    inside = level.abs() < schedule.LOG_SNR_LIMIT
    # 1e-9: float64 rounding of the level, amplified where the curve is steep.
    torch.testing.assert_close(curve.time(level)[inside], t[inside], rtol=0.0, atol=1e-9)


@EVERY_SCHEDULE
def test_time_outside_the_ends_is_clamped(curve: schedule.Schedule) -> None:
    t = curve.time(torch.tensor([60.0, -60.0], dtype=torch.float64))
    torch.testing.assert_close(t, torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-6, rtol=0)


@EVERY_SCHEDULE
@EVERY_DTYPE
def test_schedule_keeps_dtype_shape_and_is_finite_at_both_ends(
    curve: schedule.Schedule, dtype: torch.dtype
) -> None:
    t = torch.tensor([[0.0, 0.3, 0.5], [0.7, 0.9, 1.0]], dtype=dtype)
    level = curve.log_snr(t)
    back = curve.time(level)
    assert level.dtype == back.dtype == dtype
    assert level.shape == back.shape == t.shape
    assert level.device == back.device == t.device
    assert torch.isfinite(level).all()
    assert torch.isfinite(back).all()
    clean, noisy = curve.ends()
    assert noisy < clean
    exact = curve.log_snr(t.double())[:, 1:2]
    # 2e-3: a handful of float32 roundings (6e-8) through expm1, cumulative sums and logarithms.
    torch.testing.assert_close(level.double()[:, 1:2], exact, atol=2e-3, rtol=0.0)


@EVERY_SCHEDULE
def test_schedule_compiles_in_one_graph(curve: schedule.Schedule) -> None:
    def both(t: Tensor) -> tuple[Tensor, Tensor]:
        level = curve.log_snr(t)
        return level, curve.time(level)

    _compiles(both, torch.linspace(0.01, 0.99, 17, dtype=torch.float64))


@EVERY_SCHEDULE
def test_a_finite_start_is_declared(curve: schedule.Schedule) -> None:
    """Bounds and grids go to t = 0 where the continuous limit has a log-SNR there, and nowhere else."""
    start = float(curve.continuous(torch.zeros(1, dtype=torch.float64)))
    assert curve.finite_start == (start < schedule.LOG_SNR_LIMIT)


@EVERY_SCHEDULE
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_grid_rises_from_noise_to_data(curve: schedule.Schedule, steps: int) -> None:
    grid = curve.grid(steps)
    assert grid.dtype == torch.float64
    assert grid.shape == (steps,)
    assert (grid[1:] > grid[:-1]).all()
    assert torch.isfinite(grid).all()
    torch.testing.assert_close(grid[0], curve.log_snr(torch.ones(1, dtype=torch.float64))[0])


@EVERY_SCHEDULE
def test_slowness_is_the_density_of_uniform_time(curve: schedule.Schedule) -> None:
    level = torch.linspace(-34.0, 34.0, 68_001, dtype=torch.float64)
    slow = curve.slowness(level)
    assert (slow >= 0.0).all()
    # 2e-3: time left beyond +-30, and the trapezoid rule at the ends of bounded schedules.
    assert float(torch.trapezoid(slow, level)) == pytest.approx(1.0, abs=2e-3)


CHANGED = [
    schedule.Modified(resolution_shift=4.0, input_scale=0.5),
    schedule.Modified(of=schedule.CosineEnds(), zero_terminal_snr=True),
    schedule.Modified(of=schedule.Legacy(), zero_terminal_snr=True, resolution_shift=2.0),
    schedule.Modified(of=schedule.InterpolatedCosine(), input_scale=2.0),
    schedule.Polyexponential(rho=0.5),
    schedule.Sigmoid(start=0.0, tau=0.7),
]
SMOOTH = [c for c in SCHEDULES if not c.steps] + CHANGED


@pytest.mark.parametrize("curve", SMOOTH, ids=_id)
def test_slowness_is_the_slope_of_time(curve: schedule.Schedule) -> None:
    """Against central differences of `time` with one step of Richardson's extrapolation, between the ends."""
    level = curve.log_snr(torch.linspace(0.01, 0.99, 98, dtype=torch.float64))

    def difference(step: float) -> Tensor:
        return (curve.time(level - step) - curve.time(level + step)) / (2.0 * step)

    expected = (4.0 * difference(1e-4) - difference(2e-4)) / 3.0
    # 1e-8: rounding of two times, 1e-16, over the step, where a schedule hurries at 1e-3 of t per unit of log-SNR
    torch.testing.assert_close(curve.slowness(level), expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("curve", SMOOTH, ids=_id)
def test_slowness_is_exact_at_both_ends_and_zero_beyond(curve: schedule.Schedule) -> None:
    """1/(-dlog_snr/dt) of the curve itself, differentiated at t = 0 and t = 1."""
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    ends, slope = torch.func.jvp(curve.continuous, (t,), (torch.ones_like(t),))
    for end, exact, beyond in zip(ends, -1.0 / slope, (1e-3, -1e-3), strict=True):
        if end.abs() >= schedule.LOG_SNR_LIMIT or not torch.isfinite(exact):
            continue
        # 1e-7: at log-SNR 20 alpha^2 is 1 - 2e-9, of which its logarithm keeps seven digits
        torch.testing.assert_close(curve.slowness(end), exact, rtol=1e-7, atol=0.0)
        assert float(curve.slowness(end + beyond)) == 0.0


@pytest.mark.parametrize("curve", [c for c in SCHEDULES if c.steps], ids=_id)
def test_slowness_of_a_table_is_that_of_its_lines(curve: schedule.Schedule) -> None:
    """At every entry, both ends and the middle of every line; all of t lies on them."""
    nodes = torch.arange(curve.steps + 1, dtype=torch.float64) / curve.steps
    level = curve.log_snr(nodes)
    exact = 1.0 / (curve.steps * (level[:-1] - level[1:]))
    torch.testing.assert_close(curve.slowness(level[1:]), exact, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(curve.slowness(level[:1]), exact[:1], rtol=1e-9, atol=0.0)
    middle = 0.5 * (level[1:] + level[:-1])
    torch.testing.assert_close(curve.slowness(middle), exact, rtol=1e-9, atol=0.0)
    outside = torch.stack([level[0] + 1e-3, level[-1] - 1e-3])
    assert curve.slowness(outside).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("curve", [c for c in SCHEDULES if c.steps], ids=_id)
def test_training_visits_only_the_table(curve: schedule.Schedule) -> None:
    table = curve.table(curve.steps)
    assert table.dtype == torch.float64
    assert (table[1:] < table[:-1]).all()
    visited = curve.log_snr(curve.training_time(midpoints(curve.steps * 4)))
    torch.testing.assert_close(visited.unique(), table.flip(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(curve.snap(table), table, rtol=1e-12, atol=1e-12)


LEARNING_CURVES = [c for c in SCHEDULES if c.learns]
EVERY_LEARNING = pytest.mark.parametrize("curve", LEARNING_CURVES, ids=_id)


def test_learning_schedules_are_known() -> None:
    """Whoever builds a network says so, and nobody else."""
    assert [c for c in SCHEDULES if c.build() is not None] == LEARNING_CURVES


def _moved(curve: schedule.Schedule) -> schedule.Schedule:
    """The schedule on a network whose weights have changed at random."""
    network = curve.build()
    assert network is not None
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.5 * torch.randn(weight.shape, generator=generator)
    assert set(network.state_dict()) > {name for name, _ in network.named_buffers()}
    return curve.live(network)


@EVERY_LEARNING
def test_a_schedule_that_has_learned_is_a_schedule(curve: schedule.Schedule) -> None:
    """The contract of every schedule, on weights that have moved."""
    moved = _moved(curve)
    assert moved.steps == curve.steps
    assert moved.finite_start == curve.finite_start
    t = torch.linspace(0.0, 1.0, 41, dtype=torch.float64)
    assert float((moved.log_snr(t) - curve.log_snr(t)).abs().max()) > 0.1
    test_schedule_falls_strictly(moved)
    test_time_inverts_log_snr(moved)
    test_time_outside_the_ends_is_clamped(moved)
    test_slowness_is_the_density_of_uniform_time(moved)
    if moved.steps:
        test_slowness_of_a_table_is_that_of_its_lines(moved)
    else:
        test_slowness_is_the_slope_of_time(moved)
    for dtype in (torch.float32, torch.float64):
        test_schedule_keeps_dtype_shape_and_is_finite_at_both_ends(moved, dtype)
    for steps in (1, 2, 7):
        test_grid_rises_from_noise_to_data(moved, steps)
    if moved.steps:
        test_training_visits_only_the_table(moved)


# Timestep samplers

CURVES = [
    schedule.Cosine(),
    schedule.Cosine(steps=50),
    schedule.LinearBeta(steps=1000),
    schedule.Interpolant(shift=3.0),
    schedule.LogLinear(log_snr_max=6.0, log_snr_min=-5.0),
    schedule.LogLinear(log_snr_max=6.0, log_snr_min=-5.0, steps=40),
]
CONTINUOUS = pytest.mark.parametrize("curve", [c for c in CURVES if not c.steps], ids=_id)
EVERY_CURVE = pytest.mark.parametrize("curve", CURVES, ids=_id)


@EVERY_SAMPLER
@EVERY_CURVE
def test_quantile_falls_with_u(sampler: timestep.TimestepSampler, curve: schedule.Schedule) -> None:
    level = sampler.log_snr(midpoints(2001), curve)
    assert (level[1:] <= level[:-1]).all()
    assert level[0] > level[-1]


@EVERY_SAMPLER
@EVERY_CURVE
@EVERY_DTYPE
def test_quantile_keeps_dtype_and_is_finite(
    sampler: timestep.TimestepSampler, curve: schedule.Schedule, dtype: torch.dtype
) -> None:
    tiny = 2.0**-54 if dtype == torch.float64 else 2.0**-24
    u = torch.tensor([[tiny, 1e-6, 0.3], [0.5, 0.99, 1.0 - tiny * 2]], dtype=dtype)
    level = sampler.log_snr(u, curve)
    density = sampler.density(level, curve)
    factor = sampler.importance(level, curve)
    for value in (level, density, factor):
        assert value.dtype == dtype
        assert value.shape == u.shape
        assert value.device == u.device
        assert torch.isfinite(value).all()
    assert (density >= 0.0).all()


@EVERY_SAMPLER
@CONTINUOUS
def test_density_matches_the_quantile(
    sampler: timestep.TimestepSampler, curve: schedule.Schedule
) -> None:
    level = torch.linspace(40.0, -40.0, 80_001, dtype=torch.float64)
    density = sampler.density(level, curve)
    rank = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(density, -level)])
    u = midpoints(999)
    drawn = sampler.log_snr(u, curve)
    at = torch.searchsorted(-level, -drawn)
    # 1.5e-3: the trapezoid rule at the jumps of bounded densities; Kolmogorov's distance of the two laws.
    inside = drawn.abs() < schedule.LOG_SNR_LIMIT
    assert float((rank[at] - u)[inside].abs().max()) < 1.5e-3
    if inside.all():
        assert float(rank[-1]) == pytest.approx(1.0, abs=1.5e-3)


UNBIASABLE = [
    type(s)(unbiased=True)
    for s in SAMPLERS
    if not isinstance(s, timestep.Uniform | timestep.Importance)
]
PROBES = (torch.ones_like, torch.sigmoid, lambda level: torch.cos(0.7 * level))
BOUNDED = schedule.LogLinear(log_snr_max=6.0, log_snr_min=-5.0)
"""A schedule that every truncated law covers."""


NARROW = [
    timestep.LogUniform(unbiased=True),
    timestep.LogUniform(sigma_min=0.1, sigma_max=2.0, unbiased=True),
    timestep.LogLogistic(sigma_min=0.05, sigma_max=3.0, unbiased=True),
    timestep.VDiffusion(sigma_min=0.02, sigma_max=20.0, unbiased=True),
    timestep.CosineInterpolated(sigma_min=0.01, sigma_max=30.0, unbiased=True),
]
"""Laws that end inside the schedules below."""


@pytest.mark.parametrize("sampler", NARROW, ids=lambda s: s.label())
@EVERY_CURVE
def test_unbiased_misses_nothing_beyond_its_bounds(
    sampler: timestep.TimestepSampler, curve: schedule.Schedule
) -> None:
    """Over even u: E[a f] is E[f] of uniform time, f = 1 included; on a table every entry has its exact probability."""
    u = midpoints(100_000)
    level = sampler.log_snr(u, curve)
    assert (level[1:] <= level[:-1]).all()
    factor = sampler.importance(level, curve)
    uniform = timestep.Uniform().log_snr(u, curve)
    for probe in PROBES:
        # 1e-3: bounds of u that fall between the points, times weights up to about fifty
        mean = float((factor * probe(level)).mean())
        assert mean == pytest.approx(float(probe(uniform).mean()), abs=1e-3)
    if curve.steps:
        table = curve.table(curve.steps)
        share = sampler.relative(table, curve) / curve.steps
        assert float(share.sum()) == pytest.approx(1.0, rel=1e-9)
        drawn = torch.isclose(level[:, None], table).double().mean(0)
        torch.testing.assert_close(drawn, share, rtol=0.0, atol=3e-5)
        assert float((share * sampler.importance(table, curve)).sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("sampler", UNBIASABLE, ids=_id)
def test_unbiased_restores_the_uniform_mean(sampler: timestep.TimestepSampler) -> None:
    """E[a f] under the density is E[f] of uniform time, f = 1 included, by quadrature over log-SNR."""
    level = torch.linspace(-12.0, 12.0, 40_001, dtype=torch.float64)
    seen = sampler.density(level, BOUNDED) * sampler.importance(level, BOUNDED)
    uniform = BOUNDED.slowness(level)
    for probe in PROBES:
        mean = float(torch.trapezoid(seen * probe(level), level))
        # 1e-3: the trapezoid rule at the ends of the schedule.
        expected = float(torch.trapezoid(uniform * probe(level), level))
        assert mean == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("sampler", UNBIASABLE, ids=_id)
@pytest.mark.parametrize("steps", [8, 40])
def test_unbiased_is_exact_on_tables(sampler: timestep.TimestepSampler, steps: int) -> None:
    """The importance of an entry is 1/(N x the share of u that draws it)."""
    curve = schedule.LogLinear(log_snr_max=3.0, log_snr_min=-3.0, steps=steps)
    level = sampler.log_snr(midpoints(100_000), curve)
    entry = (curve.time(level) * steps).round().long() - 1
    share = torch.bincount(entry, minlength=steps).double() / 100_000
    expected = 1.0 / (steps * sampler.importance(curve.table(steps), curve))
    # 1.5e-5: one u of the grid on either side of an entry.
    torch.testing.assert_close(share, expected, rtol=0.0, atol=1.5e-5)


@pytest.mark.parametrize("curve", [BOUNDED, schedule.Cosine(steps=50)], ids=_id)
@pytest.mark.parametrize(
    "law", [timestep.LogNormal(), timestep.LogitNormal(), timestep.P2()], ids=_id
)
def test_importance_estimates_the_target(
    law: timestep.TimestepSampler, curve: schedule.Schedule
) -> None:
    """Uniform draws with weights have the mean of the target's own draws."""
    sampler = timestep.Importance(target=law)
    u = midpoints(200_000)
    level, wanted = sampler.log_snr(u, curve), law.log_snr(u, curve)
    inside = (wanted <= curve.ends()[0]) & (wanted >= curve.ends()[1])
    for probe in PROBES:
        mean = float((sampler.importance(level, curve) * probe(level)).mean())
        assert mean == pytest.approx(float((probe(wanted) * inside).mean()), abs=2e-3)


@EVERY_SAMPLER
def test_discrete_levels_are_table_entries(sampler: timestep.TimestepSampler) -> None:
    curve = schedule.Cosine(steps=50)
    gap = (sampler.log_snr(midpoints(500), curve)[:, None] - curve.table(50)).abs().amin(1)
    assert float(gap.max()) < 1e-12


@EVERY_SAMPLER
@pytest.mark.parametrize("curve", CURVES[:2], ids=_id)
def test_sampler_compiles_in_one_graph(
    sampler: timestep.TimestepSampler, curve: schedule.Schedule
) -> None:
    def both(u: Tensor) -> tuple[Tensor, Tensor]:
        level = sampler.log_snr(u, curve)
        return level, sampler.relative(level, curve) if curve.steps is None else level

    _compiles(both, midpoints(17))


LEARNING = [s for s in SAMPLERS if s.learns]


def test_learning_samplers_are_known() -> None:
    """Whoever builds a memory says so, and nobody else."""
    table = schedule.Cosine(steps=50)
    assert [s for s in SAMPLERS if s.build(table) is not None] == LEARNING


@pytest.mark.parametrize("sampler", LEARNING, ids=_id)
def test_an_empty_memory_is_the_start(sampler: timestep.TimestepSampler) -> None:
    """A live sampler on a new memory draws and weighs as its spec; the memory is in the state dict, without weights."""
    table = schedule.Cosine(steps=50)
    memory = sampler.build(table)
    assert memory is not None
    assert memory.state_dict()
    assert not list(memory.parameters())
    live, u = sampler.live(memory), midpoints(500)
    assert live.draw == sampler.draw
    level = sampler.log_snr(u, table)
    assert torch.equal(live.log_snr(u, table), level)
    for method in ("importance", "relative", "density"):
        ours, expected = (getattr(s, method)(level, table) for s in (live, sampler))
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("draw", ["independent", "stratified", "antithetic"])
def test_spread_keeps_u_uniform_and_depends_on_the_index_alone(draw: str) -> None:
    index = torch.arange(64, 192)
    u = torch.rand(128, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if draw == "antithetic":
        u = u[::2].repeat_interleave(2)
    whole = timestep.spread(u, index, 64, draw)
    assert ((whole > 0.0) & (whole < 1.0)).all()
    halves = [timestep.spread(u[p], index[p], 64, draw) for p in (slice(0, 50), slice(50, 128))]
    assert torch.equal(torch.cat(halves), whole)
    if draw == "stratified":
        assert torch.equal((whole[:64] * 64).floor().long(), torch.arange(64))
    if draw == "antithetic":
        torch.testing.assert_close(whole[::2] + whole[1::2], torch.ones(64, dtype=torch.float64))


# Weightings and predictions


@EVERY_WEIGHTING
@EVERY_DTYPE
def test_weight_is_finite_and_keeps_dtype(weight: weighting.Weighting, dtype: torch.dtype) -> None:
    level = torch.linspace(-30.0, 30.0, 122, dtype=dtype).reshape(2, 61)
    value = weight.weight(level, schedule.Cosine())
    assert value.dtype == dtype
    assert value.shape == level.shape
    assert value.device == level.device
    assert torch.isfinite(value).all()
    assert (value >= 0.0).all()
    assert float(value.max()) > 0.0


@EVERY_WEIGHTING
def test_weight_compiles_in_one_graph(weight: weighting.Weighting) -> None:
    curve, table = schedule.Cosine(), schedule.Cosine(steps=50)

    def both(level: Tensor) -> tuple[Tensor, Tensor]:
        return weight.weight(level, curve), weight.weight(level, table)

    _compiles(both, torch.linspace(-9.0, 9.0, 17, dtype=torch.float64))


@EVERY_PREDICTION
def test_the_target_gives_the_data_back(meaning: prediction.Prediction) -> None:
    x0, eps, level = _batch()
    x_t = noise.noised(x0, eps, level)
    back = meaning.x0(meaning.target(x0, eps, level), x_t, level)
    # 1e-9: epsilon-prediction divides by alpha = e^-4 at the noisy end.
    torch.testing.assert_close(back, x0, atol=1e-9, rtol=0.0)


@EVERY_PREDICTION
@EVERY_DTYPE
def test_coefficients_keep_dtype_and_are_finite(
    meaning: prediction.Prediction, dtype: torch.dtype
) -> None:
    level = torch.linspace(-30.0, 30.0, 61, dtype=dtype)
    for value in (*meaning.coefficients(level), *meaning.mixture(level)):
        assert value.dtype == dtype
        assert value.shape == level.shape
        assert torch.isfinite(value).all()


@EVERY_PREDICTION
def test_prediction_compiles_in_one_graph(meaning: prediction.Prediction) -> None:
    x0, eps, _ = _batch()

    def both(level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        target = meaning.target(x0, eps, level)
        return target, meaning.x0(target, x0, level), meaning.residual_weight(level)

    _compiles(both, torch.linspace(-8.0, 8.0, 17, dtype=torch.float64))


@EVERY_PREDICTION
@EVERY_WEIGHTING
def test_same_x0_error_same_loss(
    meaning: prediction.Prediction, weight: weighting.Weighting
) -> None:
    """Over the whole grid: w SNR |x0 - x0_hat|^2, whatever the network's output means."""
    x0, eps, level = _batch()
    x_t = noise.noised(x0, eps, level)
    generator = torch.Generator().manual_seed(5)
    estimate = x0 + 0.1 * torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    c = meaning.coefficients(level)
    output = (estimate - noise.expand(c.skip, x0) * x_t) / noise.expand(c.out, x0)
    residual = (output - meaning.target(x0, eps, level)).square().mean(1)
    factor = weight.weight(level, schedule.Cosine())
    loss = factor * meaning.residual_weight(level) * residual
    expected = factor * torch.exp(level) * (x0 - estimate).square().mean(1)
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=0.0)


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 17, 6, generator=generator, dtype=torch.float64)
    return x0, eps, torch.linspace(-8.0, 8.0, 17, dtype=torch.float64)


def _compiles(function: Any, example: Tensor) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    expected = function(example)
    torch.testing.assert_close(compiled(example), expected, rtol=1e-12, atol=1e-12)
