"""Proves mixed precision and checkpointing: true gradients where they are looked at, the same with less memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.test_loop import numbers, run, trial, weights
from trainer.checkpointing import recompute_blocks
from trainer.distributed import World
from trainer.errors import UserError
from trainer.loop import train
from trainer.models import MLP, DiT, UNet
from trainer.precision import Scaled
from trainer.record import Record
from trainer.training import Training
from trainer.trial import TrialSpec

CPU = torch.device("cpu")
FP16 = {"precision": "fp16", "kimg": 2.56, "batch_size": 64}


def test_gradients_are_unscaled_before_they_are_clipped() -> None:
    """A gradient of norm 1.25 clipped at 0.5, by hand, in two groups with rates of their own."""
    first, second = (nn.Parameter(torch.tensor([x])) for x in (1.0, 2.0))
    optimizer = torch.optim.SGD([{"params": [first], "lr": 1.0}, {"params": [second], "lr": 2.0}])
    scaled = Scaled("fp16", CPU)
    scaled.backward(0.75 * first.sum() + 1.0 * second.sum())
    assert first.grad is not None
    assert float(first.grad) == 0.75 * float(scaled.factor()) > 1000.0
    scaled.unscale(optimizer)
    nn.utils.clip_grad_norm_([first, second], 0.5)
    scaled.step(optimizer)
    # 1e-5: the clip adds 1e-6 to the norm
    assert first.item() == pytest.approx(1.0 - 0.75 * 0.4, rel=1e-5)
    assert second.item() == pytest.approx(2.0 - 2.0 * 0.4, rel=1e-5)
    assert scaled.metrics() == {"train/loss_scale": 65536.0, "train/skipped_steps": 0.0}


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "muon"])
def test_a_step_that_overflows_is_skipped_and_counted(toy: dict[str, Any], kind: str) -> None:
    """Nothing moves but the factor, which halves; the next step is made."""
    spec = trial(toy, train=FP16, optimizer={"kind": kind})
    training = Training(spec, spec.data.load(Path()).to(CPU), World(0, 1))
    before = {name: value.clone() for name, value in training.learner.state_dict().items()}
    bad = next(training.learner.network.parameters()).register_hook(lambda g: g * float("inf"))
    training.step()
    after = training.learner.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert training.scaled.metrics() == {"train/loss_scale": 32768.0, "train/skipped_steps": 1.0}
    bad.remove()
    training.step()
    assert training.scaled.metrics()["train/skipped_steps"] == 1.0
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_fp16_trains_like_fp32(toy: dict[str, Any], tmp_path: Path) -> None:
    half = run(trial(toy, train=FP16), tmp_path / "half")
    whole = run(trial(toy), tmp_path / "whole")
    # 2 %: eleven bits of mantissa in forward passes, over forty steps
    assert half[-1].metrics["train/loss"] == pytest.approx(
        whole[-1].metrics["train/loss"], rel=0.02
    )
    assert half[-1].metrics["train/skipped_steps"] == 0.0
    assert half[-1].series[-1][1]["train/loss_scale"] == 65536.0
    assert "train/loss_scale" not in whole[-1].metrics


def test_fp16_resumes_exactly_after_a_skipped_step(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factor of 2^40 overflows until it fits: the count and the factor are in the checkpoint."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp,
        "GradScaler",
        lambda *a, **k: scaler(*a, **k, init_scale=2.0**40, growth_interval=9),
    )
    spec = trial(toy, train=FP16)
    whole = run(spec, tmp_path / "whole")
    loop = train(spec, tmp_path / "cut", cache=tmp_path / "cache", device="cpu")
    next(loop)
    loop.close()
    run(spec, tmp_path / "cut")
    assert whole[0].metrics["train/skipped_steps"] >= 1.0
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "cut")[name]), name


SMALL: dict[str, Any] = {"channels": (8, 8), "groups": 4, "attention": (1,), "dropout": 0.1}
NETWORKS = {
    "compact": UNet(**SMALL),
    "ddpm": UNet(layout="ddpm", resample="residual", **SMALL),
    "dit": DiT(width=16, depth=3, heads=2, dropout=0.1),
}


def gradients(network: nn.Module) -> tuple[dict[str, Tensor], int]:
    """Of a loss on fixed data, and the bytes that were kept for them."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)  # dropout's
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = network(x, torch.linspace(0.1, 0.9, 16)).square().mean()
    held = sum(size for place, size in kept.items() if place not in own)
    loss.backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}, held


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_blocks_computed_again_give_the_same_gradients(spec: UNet | DiT) -> None:
    plain, again = (seeded(spec) for _ in range(2))
    recompute_blocks(again)
    expected, much = gradients(plain)
    found, little = gradients(again)
    assert found.keys() == expected.keys()
    assert again.state_dict().keys() == plain.state_dict().keys()
    assert any(bool(value.any()) for value in expected.values())
    for key, value in expected.items():
        # the same operations in the same order; 1e-6 leaves room for another kernel
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-9)
    assert little < 0.6 * much, (little, much)


def seeded(spec: UNet | DiT) -> nn.Module:
    """With weights nowhere zero, so that every block counts."""
    torch.manual_seed(0)
    network: nn.Module = spec.build((1, 8, 8))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.train()


def test_a_training_with_checkpointing_is_the_one_without(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """On pictures, with the averages that were copied before; the field is neutral."""
    model = {"kind": "unet", **{k: v for k, v in SMALL.items() if k != "attention"}}
    train = {"kimg": 0.128, "batch_size": 32, "precision": "fp16"}
    shared: dict[str, Any] = {"data": {"kind": "digits"}, "model": model, "evaluation__draws": 1}
    plain = run(trial(toy, train=train, **shared), tmp_path / "a")
    again = run(trial(toy, train=train | {"checkpointing": True}, **shared), tmp_path / "b")
    assert numbers(plain) == numbers(again)
    key = TrialSpec.model_validate(toy).key("d")
    assert trial(toy, train__checkpointing=False).key("d") == key


def test_a_network_without_blocks_is_told() -> None:
    with pytest.raises(UserError, match="no blocks to compute again"):
        recompute_blocks(MLP().build((2,)))
