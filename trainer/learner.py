"""What learns in a trial? The network, and whatever else has weights or statistics; called, it gives the losses."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.diffusion.learning import schedule_loss
from trainer.diffusion.objective import Terms
from trainer.diffusion.process import Asked, Scalars, training_levels
from trainer.diffusion.schedule.learned_curve import LearnedCurve
from trainer.diffusion.timestep import entry_index, spread
from trainer.diffusion.timestep.history import LossHistory
from trainer.distributed import World
from trainer.errors import UserError
from trainer.inputs import Conditions, bound
from trainer.randomness import GENERATOR, Stream, derive
from trainer.stretches import Stretches
from trainer.tally import Tally
from trainer.trial import TrialSpec

_LEVELS = 4096
"""Examples whose noise levels are made at once."""
_NUMBERS = 1 << 18
"""Of noise that are made at once: as many as stay in a processor's cache."""


class Foreseen(NamedTuple):
    """What is drawn for examples."""

    eps: Tensor
    """[B, ...]"""
    scalars: Scalars


class Learner(nn.Module):
    """Network and objective of one trial: x0 and the examples' global indices in, their losses out.

    All randomness is drawn here, from the trial's streams, as a function of the global index. `diffusion` is the
    trial's, on the modules that its stateful members built: what they have learned so far.
    """

    def __init__(self, trial: TrialSpec, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.trial = trial
        self.network = build_network(trial, shape)
        self.part = trial.diffusion.objective.build()
        self.timesteps = trial.diffusion.timesteps.build(trial.diffusion.schedule)
        self.schedule = trial.diffusion.schedule.build()
        self.diffusion = trial.diffusion.live(schedule=self.schedule, timesteps=self.timesteps)
        self.tally = Tally()
        levels = trial.data.levels
        self._half_bin = None if levels is None else 1.0 / levels
        self._unseen: list[Tensor] = []
        self._uncounted: list[Tensor] = []
        self._eps = Stream(trial.seed, "train/eps")
        self._time = Stream(trial.seed, "train/time")
        self._ends = Stream(trial.seed, "train/schedule_ends")
        self._shape = shape
        self._scalars = [
            Stretches(_LEVELS, partial(self._levels, exact=exact), axis=1)
            for exact in (True, False)
        ]
        batch = trial.train.batch_size
        length = _NUMBERS // math.prod(shape) // batch * batch
        self._noises = (
            Stretches(
                length,
                lambda k: self._eps.normal(torch.arange(k * length, (k + 1) * length), shape),
            )
            if length > batch
            else None
        )

    def forward(
        self, x0: Tensor, index: Tensor, conditions: Conditions, drawn: Foreseen | None = None
    ) -> Tensor:
        """Loss of each example [B] for x0 [B, ...], global index [B] and what the network is told besides.

        `drawn` is what `foresee` says of them, if anything.
        """
        asked = self.asked(x0, index, drawn)
        answer = bound(self.network, conditions)(asked.x, asked.condition)
        return self.answered(asked, answer, index, conditions)

    def asked(self, x0: Tensor, index: Tensor, drawn: Foreseen | None = None) -> Asked:
        """What the network is asked of examples; arguments as of a call."""
        if drawn is not None:
            return self.diffusion.asked(x0, drawn.eps, drawn.scalars)
        eps = self._eps.normal(index, tuple(x0.shape[1:]))
        return self.diffusion.asked(x0, eps, training_levels(self.diffusion, self._u(index)))

    def answered(
        self, asked: Asked, answer: Tensor, index: Tensor, conditions: Conditions
    ) -> Tensor:
        """The losses [B] that the network's answer [B, C', ...] has; they are remembered."""
        terms, losses = self._judged(asked, answer)
        self._count(terms, losses)
        if self.timesteps is not None:
            entry = entry_index(terms.log_snr, self.diffusion.schedule)
            unweighted = losses.detach() / terms.importance
            self._unseen.append(torch.stack([entry.double(), unweighted.double()], 1))
        if isinstance(self.schedule, LearnedCurve):
            fresh, at_clean = self._ends.normal(index, tuple(asked.x0.shape[1:])), index % 2 == 0
            network = bound(self.network, conditions)
            learning = schedule_loss(self.schedule, self.diffusion, network, terms, fresh, at_clean)
            losses = losses + learning.to(losses.dtype)
        return losses

    def judged(self, x0: Tensor, index: Tensor, conditions: Conditions) -> tuple[Terms, Tensor]:
        """What the objective looks at, and its loss [B]; nothing is remembered."""
        asked = self.asked(x0, index)
        return self._judged(asked, bound(self.network, conditions)(asked.x, asked.condition))

    def _judged(self, asked: Asked, answer: Tensor) -> tuple[Terms, Tensor]:
        terms = self.diffusion.answered(asked, answer, part=self.part, half_bin=self._half_bin)
        return terms, self.diffusion.objective.loss(terms)

    def foresee(self, index: Tensor) -> Foreseen | None:
        """Noise and noise levels of consecutive global indices [B]; None: they are made where they are needed.

        On a processor, where the host's calls are what a small step costs, they are made for many steps at once;
        unless the noise levels depend on what was learned.
        """
        if index.device.type != "cpu" or self.remembers:
            return None
        first, count = int(index[0]), len(index)
        exact, rounded = (one.of(first, count).unbind(0) for one in self._scalars)
        eps = (
            self._noises.of(first, count) if self._noises else self._eps.normal(index, self._shape)
        )
        return Foreseen(eps, Scalars(*exact, *rounded))

    def _levels(self, number: int, *, exact: bool) -> Tensor:
        """Scalars of a stretch of examples, float64 [4, N], or those that multiply images, float32 [6, N]."""
        index = torch.arange(number * _LEVELS, (number + 1) * _LEVELS)
        with torch.no_grad():
            found = self.diffusion.scalars(training_levels(self.diffusion, self._u(index)))
            return torch.stack(found[:4]) if exact else torch.stack(found[4:]).float()

    @torch.no_grad()
    def _count(self, terms: Terms, losses: Tensor) -> None:
        """For the loss by noise level: the epsilon-MSE, which means the same for every objective, and the loss."""
        error = terms.output.detach().to(terms.target.dtype) - terms.target
        unweighted = terms.residual_weight * error.square().flatten(1).mean(1)
        self._uncounted.append(Tally.row(terms.log_snr, unweighted, losses))

    def clipped(self) -> list[list[nn.Parameter]]:
        """The parameters whose gradients are clipped together: the model's, and the schedule's on their own."""
        apart = [] if self.schedule is None else list(self.schedule.parameters())
        model = [p for p in self.parameters() if p not in set(apart)]
        return [model, apart] if apart else [model]

    def observe(self, world: World) -> None:
        """After a batch: what has a memory sees all workers' losses, in the order of the global index."""
        for row in self._uncounted:
            self.tally.add(row)
        if isinstance(self.timesteps, LossHistory):
            rows = world.gather(torch.cat(self._unseen))
            self.timesteps.observe(rows[:, 0].long(), rows[:, 1])
        self.forget()

    def has_dropout(self) -> bool:
        """Whether its numbers depend on torch's generator."""
        return any(isinstance(m, nn.Dropout) and m.p > 0.0 for m in self.modules())

    def seen(self) -> Tensor:
        """What `observe` will count of a batch, as `Tally.row` [3, B]; it is taken away."""
        row = torch.cat(self._uncounted, 1)
        self.forget()
        return row

    def has_seen(self, row: Tensor) -> None:
        """`observe` will count this of a batch."""
        self._uncounted.append(row)

    @property
    def remembers(self) -> bool:
        """Whether beside the network something learns or has a memory, which a step asks and tells."""
        return self.timesteps is not None or self.schedule is not None

    def forget(self) -> None:
        """What it saw of a batch that is begun again."""
        self._unseen.clear()
        self._uncounted.clear()

    def metrics(self) -> dict[str, float]:
        """What learns beside the network: `train/warmup`, the filled share of the memory; the schedule's ends."""
        shown: dict[str, float] = {}
        if isinstance(self.timesteps, LossHistory):
            shown["train/warmup"] = float(self.timesteps.warmup())
        if isinstance(self.schedule, LearnedCurve):
            shown["train/log_snr_max"] = float(self.schedule.clean.detach())
            shown["train/log_snr_min"] = float(self.schedule.noisy.detach())
        return shown

    def _u(self, index: Tensor) -> Tensor:
        """The uniform number behind each example's noise level, float64 in (0, 1)."""
        draw = self.trial.diffusion.timesteps.draw
        source = index - index % 2 if draw == "antithetic" else index
        return spread(self._time.uniform(source), index, self.trial.train.batch_size, draw)


def build_network(trial: TrialSpec, shape: tuple[int, ...]) -> nn.Module:
    """The trial's network for data of `shape`, with its initial weights: equal for equal seed and model.

    Raises UserError when the model does not fit data of this shape.
    """
    planes = sum(one.planes(shape) for one in trial.network_inputs())
    network = _built(trial, shape, planes)
    if planes:
        _silence_planes(network, _built(trial, shape, 0))
    return network


def _built(trial: TrialSpec, shape: tuple[int, ...], planes: int) -> nn.Module:
    vector = sum(one.vector() for one in trial.network_inputs())
    with GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(trial.seed, "init"))
        try:
            return trial.model.build(
                (shape[0] + planes, *shape[1:]), trial.diffusion.output_channels(shape[0]), vector
            )
        except ValueError as error:
            raise UserError(str(error)) from None


@torch.no_grad()
def _silence_planes(network: nn.Module, plain: nn.Module) -> None:
    """Begin as the network without planes, whose weights in the first layer stand last and are zero."""
    weights = plain.state_dict()
    for name, value in network.state_dict().items():
        if value.shape == weights[name].shape:
            value.copy_(weights[name])
        else:
            value.zero_()
            value[:, : weights[name].shape[1]] = weights[name]
