"""Proves one contract for all optimizers: state round trips, exact resume, stable keys, which parameters decay; and
Muon against torch's on matrices.
"""

import copy
import io
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from tests.trainer.rates import applied_rates
from tests.trainer.test_loop import numbers, run, trial, weights
from trainer.errors import EnvironmentProblem
from trainer.loop import train
from trainer.models import DiT, UNet
from trainer.optimizer import SGD, Adam, AdamW, AdamW8bit, AnyOptimizer, Muon, Optimizer
from trainer.optimizer.base import matrices
from trainer.trial import TrialSpec

OPTIMIZER: TypeAdapter[Optimizer] = TypeAdapter(AnyOptimizer)
MEMBERS: list[type[Optimizer]] = list(get_args(get_args(AnyOptimizer)[0]))
try:
    import bitsandbytes  # noqa: F401

    HERE = MEMBERS
except ImportError:
    HERE = [member for member in MEMBERS if member is not AdamW8bit]

KEYS = {
    "adamw": "33c51a48c982ba9b",
    "adam": "771500635dec1eed",
    "adamw8bit": "c3b2b9f333b0e8f5",
    "sgd": "bcefd29c899533ac",
    "muon": "faee6175b8669872",
}


def kind(member: type[Optimizer]) -> str:
    return str(member.model_fields["kind"].default)


def network() -> nn.Module:
    torch.manual_seed(0)
    spec = UNet(channels=(8, 8), groups=4, attention=(1,), embedding=8, classes=3)
    return spec.build((1, 8, 8))


def steps(optimizer: torch.optim.Optimizer, net: nn.Module, first: int, last: int) -> None:
    """Updates on gradients that are a function of the update's number."""
    for n in range(first, last):
        generator = torch.Generator().manual_seed(n)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("member", HERE, ids=kind)
def test_a_state_comes_back_and_continues_to_the_last_bit(member: type[Optimizer]) -> None:
    spec = member(weight_decay=0.01, decays="weights")
    whole, cut = network(), network()
    steps(spec.build(whole), whole, 0, 6)

    first = spec.build(cut)
    steps(first, cut, 0, 3)
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "network": cut.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    fresh = network()
    fresh.load_state_dict(state["network"])
    second = spec.build(fresh)
    second.load_state_dict(state["optimizer"])
    assert same(second.state_dict(), first.state_dict())
    steps(second, fresh, 3, 6)

    for name, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name
        assert not torch.equal(value, network().state_dict()[name]), "every weight was moved"


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


@pytest.mark.parametrize("member", HERE, ids=kind)
def test_a_training_resumes_exactly(
    toy: dict[str, Any], tmp_path: Path, member: type[Optimizer]
) -> None:
    rate = {"kind": "cosine", "warmup_kimg": 0.3}
    spec = trial(toy, optimizer={"kind": kind(member), "lr": 3e-3, "lr_schedule": rate})
    whole = run(spec, tmp_path / "whole")
    loop = train(spec, tmp_path / "cut", cache=tmp_path / "cache", device="cpu")
    next(loop)
    loop.close()
    run(spec, tmp_path / "cut")
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "cut")[name]), name
    assert whole[-1].failure is None
    assert whole[-1].metrics["train/loss"] < whole[0].metrics["train/loss"]
    again = run(spec, tmp_path / "again")
    assert numbers(again) == numbers(whole)


@pytest.mark.parametrize("member", HERE, ids=kind)
def test_a_rate_schedule_reaches_every_group(
    toy: dict[str, Any], tmp_path: Path, member: type[Optimizer]
) -> None:
    settings = {"kind": kind(member), "lr": 0.01, "lr_schedule": {"kind": "linear"}}
    if member is Muon:  # its two inner optimizers step too, at the same rate
        spec = Muon(lr=0.01, lr_rest=0.001)
        assert spec.rates(3) == [0.01, 0.001, 0.001]
        return
    rates = applied_rates({**toy, "optimizer": settings}, 5, tmp_path)
    assert rates == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002], rel=1e-12)


@pytest.mark.parametrize("member", MEMBERS, ids=kind)
def test_members_round_trip_and_keep_their_keys(member: type[Optimizer]) -> None:
    spec = member()
    assert OPTIMIZER.validate_json(spec.model_dump_json()) == spec
    assert spec.digest() == KEYS[kind(member)], "finished trials would be trained again"
    old = {name: value for name, value in spec.model_dump().items() if name != "decays"}
    assert type(spec).saved(old) == spec
    assert member(decays="weights").digest() != spec.digest()


@pytest.mark.parametrize("member", MEMBERS, ids=kind)
def test_a_decay_that_leaves_nothing_of_the_weights_is_refused(member: type[Optimizer]) -> None:
    """One update multiplies them by 1 - lr weight_decay, but where the decay goes through Adam's moments."""
    assert member(lr=0.5, weight_decay=1.9).weight_decay == 1.9
    if member is Adam:
        assert member(lr=0.5, weight_decay=2.0).weight_decay == 2.0
        return
    with pytest.raises(ValidationError, match="leaves nothing of them: write less than 2 "):
        member(lr=0.5, weight_decay=2.0)


def test_a_decay_counts_the_faster_of_two_rates() -> None:
    with pytest.raises(ValidationError, match=r"2 at a learning rate of 0\.5"):
        Muon(lr=0.01, lr_rest=0.5, weight_decay=2.0)


def test_settings_without_a_kind_are_adamw() -> None:
    assert OPTIMIZER.validate_python({"lr": 1e-3}) == AdamW(lr=1e-3)
    with pytest.raises(ValidationError, match="nesterov: true needs momentum"):
        SGD(momentum=0.0, nesterov=True)


def test_only_weights_of_layers_decay_when_asked() -> None:
    """A huge decay without a gradient leaves biases, norms and the table of labels where they are."""
    for spec in (AdamW(decays="weights"), Muon(decays="weights")):
        net = network()
        before = copy.deepcopy(net.state_dict())
        optimizer = spec.model_copy(update={"weight_decay": 100.0, "lr": 1e-3}).build(net)
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        pulled = {
            name for name, value in net.named_parameters() if not torch.equal(value, before[name])
        }
        zero = {name for name, value in before.items() if not value.any()}
        layers = {n for n, v in net.named_parameters() if v.ndim > 1 and "labels" not in n}
        assert pulled == layers - zero
        assert {n for n in layers if n.startswith("inward")} <= pulled


def test_a_learned_schedule_is_never_pulled() -> None:
    net = nn.ModuleDict({"network": nn.Linear(3, 3), "schedule": nn.Linear(3, 3)})
    for member in HERE:
        optimizer = member(weight_decay=1.0).build(net, undecayed=net["schedule"])
        decayed = {
            id(p) for g in optimizer.param_groups if g["weight_decay"] > 0 for p in g["params"]
        }
        assert decayed == {id(p) for p in net["network"].parameters()}, member
        every = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(every) == sorted(id(p) for p in net.parameters())


def test_muon_moves_hidden_matrices_as_torch_does_and_the_rest_as_adamw() -> None:
    """Kernels as matrices [out, in x height x width]; first and last layer, embeddings, norms and biases by AdamW."""
    spec = Muon(lr=0.01, lr_rest=0.001, weight_decay=0.1)
    net, twin = network(), network()
    ours = spec.build(net)
    hidden = {
        name
        for name, p in net.named_parameters()
        if any(p is m for m in matrices(net, hidden=True))
    }
    names = dict(twin.named_parameters())
    assert all(names[name].ndim >= 2 for name in hidden)
    assert not any(part in name for name in hidden for part in ("inward", "outward", "labels"))
    assert "middle.conv1.weight" in hidden
    flat = {name: nn.Parameter(names[name].detach().flatten(1).clone()) for name in hidden}
    muon = torch.optim.Muon(
        flat.values(), lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    rest = [p for name, p in names.items() if name not in hidden]
    adamw = torch.optim.AdamW(rest, lr=0.001, weight_decay=0.1, fused=True)
    for n in range(3):
        generator = torch.Generator().manual_seed(n)
        for (name, mine), other in zip(net.named_parameters(), twin.parameters(), strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
            if name in hidden:
                flat[name].grad = mine.grad.flatten(1)
        ours.step()
        muon.step()
        adamw.step()
    for name, value in net.named_parameters():
        expected = flat[name].view_as(value) if name in hidden else names[name]
        assert torch.equal(value, expected), name


def test_muon_finds_the_hidden_matrices_of_a_transformer() -> None:
    net = DiT(width=16, depth=2, heads=2).build((1, 8, 8))
    hidden = [
        n for n, p in net.named_parameters() if any(p is m for m in matrices(net, hidden=True))
    ]
    assert "blocks.1.qkv.weight" in hidden
    assert "inward.weight" not in hidden


def test_adam_adds_its_decay_to_the_gradient() -> None:
    """One parameter, no gradient: L2 decay makes Adam step by its rate, decoupled decay by lr x decay x weight."""
    for spec, step in (
        (Adam(lr=0.01, weight_decay=0.1), 0.01),
        (AdamW(lr=0.01, weight_decay=0.1), 0.002),
    ):
        net = nn.Linear(1, 1, bias=False).double()
        nn.init.constant_(net.weight, 2.0)
        net.weight.grad = torch.zeros_like(net.weight)
        spec.build(net).step()
        # 1e-6: Adam's eps beside a gradient of 0.2
        assert 2.0 - net.weight.item() == pytest.approx(step, rel=1e-6)


@pytest.mark.skipif(AdamW8bit in HERE, reason="bitsandbytes is installed")
def test_eight_bits_need_their_library(toy: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"pip install 'diffsweep\[adamw8bit\]'"):
        run(trial(toy, optimizer={"kind": "adamw8bit"}), tmp_path / "a")
    assert TrialSpec.model_validate({**toy, "optimizer": {"kind": "adamw8bit"}}), (
        "a file may name it"
    )
