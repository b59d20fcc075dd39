"""Proves that Adam with lists made once moves as torch's, to the bit, also after a checkpoint or a lost gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainer.optimizer import listed

PAIRS = [(listed.Adam, torch.optim.Adam), (listed.AdamW, torch.optim.AdamW)]


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(2, 2))


def _groups(network: nn.Module) -> list[dict[str, object]]:
    weights = [p for p in network.parameters() if p.ndim == 2]
    rest = [p for p in network.parameters() if p.ndim == 1]
    return [{"params": weights}, {"params": rest, "weight_decay": 0.0}]


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_as_torch(mine: type[torch.optim.Adam], theirs: type[torch.optim.Adam]) -> None:
    networks = [_network(), _network()]
    both = [
        kind(_groups(network), lr=0.1, weight_decay=0.1, fused=True)
        for kind, network in zip((mine, theirs), networks, strict=True)
    ]
    for step in range(8):
        for optimizer, network in zip(both, networks, strict=True):
            x = torch.full((4, 3), 0.1 * (step + 1))
            network(x).square().sum().backward()
            if step == 3:
                network[1].bias.grad = None  # type: ignore[index, union-attr]
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            optimizer.step()
            optimizer.zero_grad()
            if step == 5:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for a, b in zip(*(network.parameters() for network in networks), strict=True):
            assert torch.equal(a, b), step
        states = [list(optimizer.state_dict()["state"].values()) for optimizer in both]
        for a, b in zip(*states, strict=True):
            assert {name: value.tolist() for name, value in a.items()} == {
                name: value.tolist() for name, value in b.items()
            }
