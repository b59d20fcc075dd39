"""The memory of a timestep sampler that learns: the last losses of every entry of the table."""

import torch
from torch import Tensor, nn


class LossHistory(nn.Module):
    """The last losses of each of N entries: a ring [N, H] and how many were ever seen [N]."""

    losses: Tensor
    seen: Tensor

    def __init__(self, entries: int, history: int, uniform_prob: float) -> None:
        super().__init__()
        self.uniform_prob = uniform_prob
        self.register_buffer("losses", torch.zeros(entries, history, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(entries, dtype=torch.int64))

    def observe(self, entry: Tensor, loss: Tensor) -> None:
        """Remember the losses [B] of the entries [B], in this order; the oldest are forgotten."""
        count, history = self.losses.shape
        order = torch.argsort(entry, stable=True)
        entry, loss = entry[order], loss[order]
        size = torch.bincount(entry, minlength=count)
        rank = torch.arange(len(entry), device=entry.device) - (torch.cumsum(size, 0) - size)[entry]
        slot = (self.seen[entry] + rank) % history
        # All but the last H of an entry would be overwritten at once: they go to a row that is thrown away.
        row = torch.where(rank >= size[entry] - history, entry, count)
        padded = torch.cat([self.losses, self.losses[:1]])
        padded[row, slot] = loss.to(padded.dtype)
        self.losses.copy_(padded[:count])
        self.seen.add_(size)

    def warm(self) -> Tensor:
        """Whether every entry has its history (bool [])."""
        return self.seen.amin() >= self.losses.shape[1]

    def warmup(self) -> Tensor:
        """The share of all histories that is filled, in [0, 1]."""
        return (self.seen.clamp(max=self.losses.shape[1]).sum() / self.losses.numel()).double()

    def probability(self) -> Tensor:
        """p of each entry [N], float64; uniform until warm."""
        uniform = torch.full_like(self.losses[:, 0], 1.0 / len(self.losses))
        weight = self.losses.square().mean(1).sqrt()
        share = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        mixed = (1.0 - self.uniform_prob) * share + self.uniform_prob * uniform
        return torch.where(self.warm(), mixed, uniform)
