"""How large are the gradients of single examples at each noise level? Their squared norms, from a few of a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainer.compiling import is_compiled
from trainer.inputs import Conditions
from trainer.randomness import derive, seeded

if TYPE_CHECKING:
    from trainer.learner import Learner

EXAMPLES = 16
"""Of each batch that is looked at, evenly spaced, over all workers: each takes a pass of its own."""


class SecondMoment:
    """Looks at some examples of a batch, one by one, before it is trained on, and leaves no trace in the training.

    The learner's weights are lent to a copy of its call, so that no hook sees these gradients; they are of the loss as
    it is minimized, in float32 whatever the precision is, and not yet clipped.
    """

    def __init__(self, learner: Learner, batch_size: int, every: int) -> None:
        """At every so many steps."""
        self._learner, self._batch_size, self._every = learner, batch_size, every
        self._aside = _Aside(learner)
        model = {id(p) for p in learner.clipped()[0]}
        self._names = [
            name for name, p in self._aside.named_parameters() if id(p) in model and p.requires_grad
        ]

    def look(
        self,
        images: int,
        share: range,
        example: Callable[[int], tuple[Tensor, Tensor, Conditions]],
        seed: int | None,
    ) -> None:
        """Count some of the batch that begins at global index `images`; `share` are this worker's places in it.

        `example` gives x0 [1, ...], global index [1] and what the network is told of one global index; `seed` is the
        trial's where there is dropout, whose masks are then a function of the example.
        """
        if images // self._batch_size % self._every:
            return
        count = min(EXAMPLES, self._batch_size)
        places = [i * self._batch_size // count for i in range(count)]
        found = [self._of(images + p, example, seed) for p in places if p in share]
        device = next(self._learner.parameters()).device
        none = torch.zeros(0, 2, dtype=torch.float64, device=device)  # workers count together
        self._learner.tally.add_gradients(*(torch.stack(found) if found else none).T)

    def _of(
        self,
        index: int,
        example: Callable[[int], tuple[Tensor, Tensor, Conditions]],
        seed: int | None,
    ) -> Tensor:
        """log-SNR and squared norm of one example, float64 [2]."""
        own = dict(self._aside.named_parameters())
        lent = {name: own[name].detach().requires_grad_() for name in self._names}
        asked = nullcontext() if seed is None else seeded(derive(seed, f"tally/dropout/{index}"))
        with asked:
            with self._eagerly():
                level, loss = functional_call(self._aside, lent, example(index))
            gradients = torch.autograd.grad(loss, list(lent.values()), allow_unused=True)
        norms = torch._foreach_norm([g for g in gradients if g is not None])
        return torch.stack([level.detach().double(), torch.stack(norms).double().square().sum()])

    def _eagerly(self) -> AbstractContextManager[Any]:
        """One example is another shape: a network that is compiled would be compiled again, for training too."""
        if not is_compiled(self._learner.network):
            return nullcontext()
        return torch.compiler.set_stance("force_eager")


class _Aside(nn.Module):
    """Calls the learner such that it remembers nothing."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, x0: Tensor, index: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """log-SNR [] and loss [] of one example."""
        terms, losses = self.learner.judged(x0, index, conditions)
        return terms.log_snr[0], losses[0]
