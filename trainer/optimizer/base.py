"""What do all optimizers share? A rate, a clip, and the rule which parameters decay and which are hidden matrices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from trainer.bounds import Clip, Exponent, Rate
from trainer.lazily import torch
from trainer.optimizer.rate import AnyLearningRate, ConstantRate
from trainer.spec import Neutral, Spec

if TYPE_CHECKING:
    from torch import nn

ENDS = ("inward", "outward", "conv_in", "conv_out")
"""Names of the layers between data and hidden features: ours, and those of diffusers' networks."""


class Optimizer(Spec):
    """Moves the weights along the gradient; `build()` gives the torch optimizer that does."""

    records: ClassVar[bool] = False
    """Whether a CUDA graph can take its step: everything that it counts lies on the device."""
    decouples: ClassVar[bool] = True
    """Whether each update multiplies the weights by 1 - lr weight_decay, whatever the gradients are."""
    lr: Rate = 2e-4
    """Learning rate that the schedule multiplies."""
    weight_decay: Exponent = 0.0
    """Pull of the weights to zero: decoupled from the gradient, except in `adam` and `sgd`, which add it there (L2)."""
    decays: Annotated[Literal["all", "weights"], Neutral("all")] = "all"
    """What the decay pulls: all parameters, or only the weights of linear and convolutional layers, so that biases,
    norms and embeddings are spared (k-diffusion, nanoGPT)."""
    grad_clip: Clip | None = 1.0
    """Largest norm of the gradient; null: no clipping."""
    lr_schedule: AnyLearningRate = ConstantRate()
    """How the learning rate changes over the budget."""

    @model_validator(mode="after")
    def _leaves_weights(self) -> Self:
        fastest = max(self.rates(2))
        if self.decouples and fastest * self.weight_decay >= 1.0:
            raise ValueError(
                f"weight_decay: {self.weight_decay:g} at a learning rate of {fastest:g} multiplies the weights by "
                f"{1.0 - fastest * self.weight_decay:g} at each update, and leaves nothing of them: write less than "
                f"{1.0 / fastest:g}"
            )
        return self

    def build(
        self, network: nn.Module, undecayed: nn.Module | None = None
    ) -> torch.optim.Optimizer:
        """The optimizer over the network's parameters; those of its part `undecayed` are never pulled to zero.

        Raises EnvironmentProblem where a library that it needs is not installed.
        """
        raise NotImplementedError

    def kept(self) -> float:
        """Numbers that it keeps per weight, in float32."""
        return 2.0

    def settle(self, optimizer: torch.optim.Optimizer) -> None:
        """After its state was loaded, which may come from another device."""
        for group in optimizer.param_groups:
            on = group["params"][0]
            if self.records or isinstance(group["lr"], torch.Tensor):
                group["lr"] = torch.tensor(self.lr, device=on.device) if on.is_cuda else self.lr
            if "capturable" in group:
                group["capturable"] = on.is_cuda and self.records
            for parameter in group["params"]:
                _align(optimizer.state.get(parameter, {}), parameter)

    def rates(self, groups: int) -> list[float]:
        """The rate of each group of parameters before the schedule."""
        return [self.lr] * groups

    def groups(
        self,
        network: nn.Module,
        undecayed: nn.Module | None,
        apart: Iterable[nn.Parameter] = (),
    ) -> list[dict[str, Any]]:
        """The parameters that decay, then those that do not, if there are any; without those `apart`."""
        own = [] if undecayed is None else list(undecayed.parameters())
        left = [p for p in network.parameters() if p not in {*own, *apart}]
        pulled = set(left) if self.decays == "all" else set(matrices(network))
        groups: list[dict[str, Any]] = [{"params": [p for p in left if p in pulled]}]
        spared = [p for p in left if p not in pulled] + own
        if spared or undecayed is not None:
            groups.append({"params": spared, "weight_decay": 0.0})
        return groups

    def rate(self, network: nn.Module) -> Any:
        """The rate as fused kernels want it: a tensor on the accelerator where they run, which then never waits."""
        first = next(network.parameters())
        return torch.tensor(self.lr, device=first.device) if first.is_cuda else self.lr


def matrices(network: nn.Module, *, hidden: bool = False) -> Iterator[nn.Parameter]:
    """The weights of linear and convolutional layers: whatever has two axes or more, but norms and embeddings.

    `hidden`: without the first and the last layer of a network, which are told by their names (`ENDS`).
    """
    layers, batch = torch.nn, torch.nn.modules.batchnorm
    spared = (
        layers.Embedding,
        layers.EmbeddingBag,
        layers.LayerNorm,
        layers.GroupNorm,
        batch._NormBase,
    )
    for name, module in network.named_modules():
        if isinstance(module, spared) or (hidden and name.rpartition(".")[2] in ENDS):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.ndim >= 2:
                yield parameter


def _align(state: dict[str, Any], parameter: nn.Parameter) -> None:
    """What is kept of a parameter lies in memory as it does, which fused kernels rely on."""
    for name, value in state.items():
        alike = isinstance(value, torch.Tensor) and value.shape == parameter.shape
        if alike and value.stride() != parameter.stride():
            state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def set_rates(optimizer: torch.optim.Optimizer, rates: Iterable[float]) -> None:
    """The learning rate of each of its groups, from the next step on."""
    for rate, group in zip(rates, optimizer.param_groups, strict=True):
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
