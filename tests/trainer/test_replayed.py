"""A step, and a network, that a GPU replays are equal to the last bit; what a recording needs is tested without one."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import toy_trial
from trainer.data import Resident
from trainer.data.batches import Drawn
from trainer.diffusion.objective import AnyObjective
from trainer.diffusion.prediction import AnyPrediction
from trainer.diffusion.schedule import AnySchedule
from trainer.diffusion.timestep import AnyTimestepSampler
from trainer.diffusion.weighting import AnyWeighting
from trainer.distributed import World
from trainer.loop import train
from trainer.passes import Kept
from trainer.replayed import BEFORE, Forward, fits
from trainer.training import Training
from trainer.trial import TrialSpec

ALONE = World(0, 1)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

IMAGES = Resident.of(
    torch.randint(0, 256, (300, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte(),
    torch.arange(300) % 10,
    levels=255,
    flip=True,
)
UNET = {"kind": "unet", "channels": [16, 32], "blocks": 1}


def trial(**values: Any) -> TrialSpec:
    given: dict[str, Any] = toy_trial() | {"data": {"kind": "digits"}, "model": UNET} | values
    return TrialSpec.model_validate(given)


def training(spec: TrialSpec, device: str = "cpu") -> Training:
    return Training(spec, IMAGES.to(torch.device(device)), ALONE)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"optimizer": {"kind": "adam"}},
    "bf16": {"train": {"kimg": 2.56, "batch_size": 64, "precision": "bf16"}},
    "passes": {"train": {"kimg": 2.56, "batch_size": 64, "microbatch": 24}},
    "dropout": {"model": UNET | {"dropout": 0.1}},
    "labels": {
        "model": UNET | {"classes": 10},
        "train": {"kimg": 2.56, "batch_size": 64, "label_dropout": 0.1},
    },
    "augmented": {"inputs": [{"kind": "augmented"}]},
    "attention": {"model": UNET | {"layout": "ddpm", "attention": [1]}},
    "transformer": {"model": {"kind": "dit", "width": 32, "depth": 1, "heads": 2, "patch": 2}},
    "averages": {"ema": [{"kind": "ramp"}, {"kind": "power"}]},
}


# What a recording needs: the host is asked for nothing, and gives nothing but what was drawn


class _Watched(TorchDispatchMode):
    """Raises where a number goes to the host, or a table comes from it."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "unique"), f"{name} waits"
        out = func(*args, **(kwargs or {}))
        assert name != "lift_fresh" or out.ndim == 0, f"a table of {tuple(out.shape)} is made"
        return out


def _members(union: Any) -> list[str]:
    """Kinds of a family, however its files are joined."""
    if kinds := getattr(union, "model_fields", {}).get("kind"):
        return [kinds.default]
    return [kind for part in get_args(union) for kind in _members(part)]


FAMILIES = {
    "schedule": AnySchedule,
    "timesteps": AnyTimestepSampler,
    "weighting": AnyWeighting,
    "prediction": AnyPrediction,
    "objective": AnyObjective,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "modified": {"of": {"kind": "cosine"}},
    "respaced": {"of": {"kind": "linear_beta", "steps": 100}, "rule": "10"},
}


def _diffusions() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, union in FAMILIES.items():
        for kind in _members(union):
            if kind not in ("learned", "loss_second_moment"):  # they remember
                yield f"{name}-{kind}", {name: {"kind": kind, **SETTINGS.get(kind, {})}}


@pytest.mark.parametrize(
    "values",
    [{"diffusion": each} for _, each in _diffusions()] + list(CASES.values()),
    ids=[name for name, _ in _diffusions()] + list(CASES),
)
def test_a_step_asks_the_host_for_nothing(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every member: tables are there after a step or two, no number is read, none is sent."""
    one = training(trial(**values))
    monkeypatch.setattr(one.learner, "foresee", lambda _: None)  # what a processor alone does
    one.learner.foresee = lambda _index: None  # as on a GPU
    for _ in range(2):
        one.step()
    drawn = one.update.batches.draw(one.images, 64)
    with _Watched():
        loss = one.update.gradients(drawn)
        one.learner.seen()
    assert torch.isfinite(loss)


def test_it_is_for_one_gpu_and_what_keeps_nothing_on_the_host() -> None:
    assert not fits(training(trial()).update)
    assert training(trial(diffusion={"schedule": {"kind": "learned"}})).learner.remembers
    assert not training(trial()).learner.remembers


def test_what_is_drawn_takes_the_place_of_what_was() -> None:
    batches = training(trial()).update.batches
    kept, other = batches.draw(0, 40).copy(), batches.draw(100, 40)
    place = kept.stored.data_ptr()
    kept.become(other)
    for mine, theirs in zip(kept.tensors(), other.tensors(), strict=True):
        assert mine is theirs is None or torch.equal(mine, theirs)
    assert kept.stored.data_ptr() == place
    part = other[10:20]
    assert isinstance(part, Drawn)
    assert torch.equal(part.index, torch.arange(110, 120))


def test_without_a_gpu_a_network_is_called_as_it_is() -> None:
    network = torch.nn.Bilinear(4, 4, 4)
    replayed = Forward(network)
    x = torch.randn(2, 4)
    for _ in range(BEFORE + 2):
        assert torch.equal(replayed(x, x), network(x, x))


def test_memory_of_a_recorded_step_is_given_to_an_evaluation_that_needs_it() -> None:
    one, calls = training(trial()), []

    def work() -> str:
        calls.append(1)
        if one._replayed._graph is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "measured"

    one._replayed._graph = object()  # type: ignore[assignment]
    assert one.with_room(work) == "measured"
    assert len(calls) == 2
    with pytest.raises(MemoryError):
        one.with_room(_too_large)


def _too_large() -> None:
    raise MemoryError


# On a GPU


def _steps(spec: TrialSpec, count: int, *, record: bool) -> tuple[Training, torch.Tensor]:
    torch.backends.cudnn.deterministic = True
    one = training(spec, "cuda")
    if not record:
        one._replayed._fits = False
    losses = []
    for _ in range(count):
        one.step()
        losses.append(one._pending[-1])
    return one, torch.stack(losses)


@on_gpu
@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_a_recorded_step_changes_no_bit(values: dict[str, Any]) -> None:
    plain, expected = _steps(trial(**values), 16, record=False)
    recorded, losses = _steps(trial(**values), 16, record=True)
    assert recorded._replayed._graph is not None
    assert torch.equal(losses, expected)
    for name, value in recorded.learner.state_dict().items():
        assert torch.equal(value, plain.learner.state_dict()[name]), name
    for one in (plain, recorded):
        one.learner.tally.merge(ALONE)
    assert recorded.learner.tally.read() == plain.learner.tally.read()


@on_gpu
def test_a_training_that_is_cut_records_again(tmp_path: Path) -> None:
    spec = trial(model=UNET | {"dropout": 0.1})

    def run(where: str, until: int | None = None, device: str = "cuda") -> dict[str, float]:
        reports = train(spec, tmp_path / where, cache=tmp_path, device=device, until_images=until)
        metrics = list(reports)[-1].metrics
        return {k: v for k, v in metrics.items() if not k.startswith("sys/")}

    run("b", 640)
    assert run("b") == run("a")
    run("c", 640, "cpu")
    assert run("c")["train/loss"] == pytest.approx(run("a")["train/loss"], rel=0.02)


@on_gpu
def test_memory_of_the_card_that_runs_out(tmp_path: Path) -> None:
    """For real: less than a batch takes is allowed; passes halve, and an evaluation has room beside."""
    model = {"kind": "unet", "channels": [64, 128], "blocks": 2}
    spec = trial(model=model, train={"kimg": 20.48, "batch_size": 4096})
    total = torch.cuda.get_device_properties(0).total_memory
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3.0 * 2**30 / total)
    try:
        reports = list(train(spec, tmp_path / "a", cache=tmp_path, device="cuda"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert Kept.of(tmp_path / "a") is not None
    assert "goes on with" in " ".join(reports[0].notes)
    assert reports[-1].done


@on_gpu
def test_a_network_that_is_replayed_gives_the_same() -> None:
    spec = trial(model=UNET | {"classes": 10})
    network = training(spec, "cuda").average.network
    replayed: Callable[..., torch.Tensor] = Forward(network)
    with torch.inference_mode():
        for seed in range(BEFORE + 4):
            at = torch.Generator("cuda").manual_seed(seed)
            x = torch.randn(20, 3, 8, 8, device="cuda", generator=at)
            level = torch.rand(20, device="cuda", generator=at)
            labels = torch.randint(0, 10, (20,), device="cuda", generator=at)
            assert torch.equal(replayed(x, level, labels=labels), network(x, level, labels=labels))
    assert len(replayed._passes) == 1  # type: ignore[attr-defined]
