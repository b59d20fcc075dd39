"""How is one optimizer step made? Learner, average, optimizer and progress of a trial, as one object."""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.checkpointing import recompute_blocks
from trainer.data import Batches, Source
from trainer.diffusion.process import Diffusion
from trainer.distributed import World
from trainer.ema import Average, Power
from trainer.errors import CheckpointError, TooLittleMemory
from trainer.flops import flops_per_image
from trainer.footprint import too_large, too_many
from trainer.inputs import Batch, Conditions, keep, trained
from trainer.learner import Learner
from trainer.memory import ran_out, release, told
from trainer.noise_scale import NoiseScale
from trainer.optimizer.base import set_rates
from trainer.passes import Passes, SmallerPasses
from trainer.precision import Scaled
from trainer.progress import Progress, log_every
from trainer.randomness import derive
from trainer.second_moment import SecondMoment
from trainer.trial import TrialSpec


class Training:
    """One worker's part in the training of a trial: `step()` moves the weights by one batch.

    Everything random is a function of the trial's seed and the images seen, so `restore(state())` continues
    as if nothing had happened. Raises UserError when batch and workers do not divide, or the data is unfit for
    the network.
    """

    def __init__(
        self, trial: TrialSpec, source: Source, world: World, passes: Passes | None = None
    ) -> None:
        self.trial, self.source, self.world = trial, source, world
        for one in trial.network_inputs():
            one.check(source)
        self.inputs = trial.live(source).network_inputs()
        self.passes = passes or Passes(trial, world)
        self._share = self.passes.share
        self.learner = Learner(trial, source.codec.shape).to(source.device)
        network = self.learner.network
        first, *further = (
            Average(spec, network, copy.deepcopy(network)) for spec in trial.averages()
        )
        self.average, self.further = first, further
        self._copied = [
            (one, one.spec.marks(trial.steps()))
            for one in (first, *further)
            if isinstance(one.spec, Power)
        ]
        self.optimizer = trial.optimizer.build(self.learner, undecayed=self.learner.schedule)
        self._rates = trial.optimizer.rates(len(self.optimizer.param_groups))
        self.scaled = Scaled(trial.train.precision, source.device)
        self.progress = Progress()
        self._clipped = self.learner.clipped()
        counts = self.passes.counts()
        self.noise = NoiseScale(self._clipped[0], counts, world.size) if trial.train.gns else None
        self._has_dropout = self.learner.has_dropout()
        every = trial.train.tally_gradients
        self._moment = SecondMoment(self.learner, trial.train.batch_size, every) if every else None
        self._batches = Batches(source, trial.seed)
        self._every = log_every(trial)
        self._pending: list[Tensor] = []
        """Losses of batches that the host has not asked for yet."""
        self._mark = time.perf_counter()
        self._timed = (0, 0.0)
        """Images and seconds of the progress when the current interval began."""
        if trial.train.checkpointing:
            recompute_blocks(network)
        if trial.train.compile:
            network.compile()
        self._parallel = DistributedDataParallel(self.learner) if world.size > 1 else None

    @property
    def images(self) -> int:
        """Training images seen."""
        return self.progress.images

    @property
    def diffusion(self) -> Diffusion:
        """The trial's, as its members have learned so far."""
        return self.learner.diffusion

    # The step

    def step(self) -> None:
        """One batch: forward and backward in passes, clip, move, average. The host does not wait for the device.

        Raises TooLittleMemory, or SmallerPasses where all workers have to begin again.
        """
        first = self.images + self.world.rank * self._share
        if self._moment is not None:
            share = range(first - self.images, first - self.images + self._share)
            seed = self.trial.seed if self._has_dropout else None
            self._moment.look(self.images, share, self._examples, seed)
        self._set_rate()
        while (loss := self._computed(first)) is None:
            self._begin_again()
        with told(lambda: too_large(self.trial, self.source)):
            self._move()
        self._pending.append(loss)
        self.progress.images += self.trial.train.batch_size

    def _computed(self, first: int) -> Tensor | None:
        """The batch's gradients are there: its mean loss []; None where a pass did not fit, but a smaller one may."""
        try:
            if self._has_dropout:
                torch.manual_seed(derive(self.trial.seed, f"train/dropout/{first}"))
            loss = torch.zeros((), device=self.source.device)
            for start, count in self.passes:
                last = start + count == self._share
                loss += self._accumulate(first + start, count, last=last)
        except Exception as error:
            if not ran_out(error):
                raise
            if (half := self.passes.half()) is None:
                why = too_many(self.passes.size, self.trial, self.source)
                raise TooLittleMemory(f"out of memory {why}") from error
            if self.world.size > 1:  # the others wait for this one
                raise SmallerPasses(half) from None
            return None  # once the error is gone, so is what it kept from being freed
        return loss

    def _begin_again(self) -> None:
        """The same batch, in passes half as large: nothing is left of what was computed of it."""
        half = self.passes.half()
        assert half is not None
        self.passes.size = half
        self.optimizer.zero_grad(set_to_none=True)
        self.learner.forget()
        if self.noise is not None:
            self.noise.begin_again(self.passes.counts())
        gc.collect()
        release(self.source.device)

    def _move(self) -> None:
        """Along the gradients: clip, step, average."""
        self.scaled.unscale(self.optimizer)
        if self.noise is not None:
            self.noise.update()
        if self.trial.optimizer.grad_clip is not None:
            for parameters in self._clipped:
                nn.utils.clip_grad_norm_(parameters, self.trial.optimizer.grad_clip, foreach=True)
        self.scaled.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.learner.observe(self.world)
        for average in (self.average, *self.further):
            average.update()

    def _accumulate(self, first: int, count: int, *, last: bool) -> Tensor:
        """Add the gradients of some of the batch's examples; returns their share of its mean loss []."""
        x0, index, conditions = self._examples(first, count)
        alone = self._parallel is not None and not last  # workers meet once per batch
        with self._parallel.no_sync() if self._parallel and alone else contextlib.nullcontext():
            with self.scaled.autocast():
                losses = (self._parallel or self.learner)(x0, index, conditions)
                loss = losses.sum() / self._share
            self.scaled.backward(loss)
        if self.noise is not None:
            self.noise.passed(count, self.scaled.factor())
        return loss.detach()

    def _examples(self, first: int, count: int = 1) -> tuple[Tensor, Tensor, Conditions]:
        """x0 [count, ...], index [count] and what the network is told of the examples from global index `first` on."""
        batch = Batch(self._batches, first, self._batches.get(first, count), self.trial.seed)
        x0, conditions = trained(self.inputs, batch)
        return x0, batch.index, conditions

    def _set_rate(self) -> None:
        optimizer, batch = self.trial.optimizer, self.trial.train.batch_size
        factor = optimizer.lr_schedule.factor(self.images, self.trial.total_images(), batch)
        set_rates(self.optimizer, [base * factor for base in self._rates])

    def due_snapshots(self) -> list[Average]:
        """The averages of which a copy is to be kept now."""
        return [one for one, marks in self._copied if self.average.updates in marks]

    # The loss curve

    @property
    def at_loss_point(self) -> bool:
        """Whether a point of the loss curve is due."""
        return self.images % self._every == 0

    def settle(self) -> None:
        """Ask the device for what a checkpoint between two points has to know; all workers call it together."""
        self.progress.window += self._losses()
        if self.world.size > 1:
            self.learner.tally.merge(self.world)
            if self.noise is not None:
                self.noise.merge(self.world)

    def read_losses(self) -> str | None:
        """Ask the device for the losses so far, add the point that is due; returns why the trial diverged, if so."""
        progress = self.progress
        progress.window += self._losses()
        self.learner.tally.merge(self.world)
        noise = {} if self.noise is None else self.noise.merge(self.world)
        if not (self.at_loss_point or self.images == self.trial.total_images()):
            return None
        mean = sum(progress.window) / len(progress.window)
        progress.window.clear()
        shown = {"train/loss": mean} | self.learner.metrics() | self.scaled.metrics() | noise
        progress.series.append((self.images, shown))
        if math.isfinite(mean):
            return None
        return f"diverged: the training loss is {mean} at {self.images / 1000:g} kimg"

    def _losses(self) -> list[float]:
        """Batch losses averaged over workers; the only point at which the host waits for the device."""
        if not self._pending:
            return []
        stacked = torch.stack(self._pending)
        self._pending.clear()
        self.world.sum_(stacked)
        return [float(value) / self.world.size for value in stacked.tolist()]

    # The clock: only training counts

    def pause(self) -> float:
        """Stop the clock; returns it, on `time.perf_counter`."""
        now = time.perf_counter()
        self.progress.seconds += now - self._mark
        self._mark = now
        return now

    def go_on(self) -> None:
        """Start it again."""
        self._mark = time.perf_counter()

    def img_per_s(self) -> float:
        """Training images per second since the last call, or since the start."""
        images, seconds = self._timed
        self._timed = (self.images, self.progress.seconds)
        return (self.images - images) / (self.progress.seconds - seconds)

    def flops_per_image(self) -> float | None:
        """Floating point operations of the network for one training image."""
        shape, vector = self.source.codec.shape, sum(one.vector() for one in self.inputs)
        whole = (shape[0] + sum(one.planes(shape) for one in self.inputs), *shape[1:])
        return flops_per_image(self.average.network, whole, vector)

    # What survives

    def state(self) -> dict[str, Any]:
        """Everything that continues the training, and the codec that generates without the data."""
        return {
            "progress": vars(self.progress),
            "learner": self.learner.state_dict(),
            "average": self.average.network.state_dict(),
            "further": {one.spec.called(): one.network.state_dict() for one in self.further},
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaled": self.scaled.state(),
            "noise": {} if self.noise is None else self.noise.state(),
            "tally": self.learner.tally.state(),
            "codec": self.source.codec.to_state(),
            "kept": keep(self.inputs, self.source),
            "fingerprint": self.source.fingerprint,
            "trial": self._key(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`; raises CheckpointError if it is another trial's."""
        if state["trial"] != self._key():
            raise CheckpointError(
                "the checkpoint is that of another trial or data set: choose another directory, or remove the "
                "checkpoint-* there to train again"
            )
        self.learner.load_state_dict(state["learner"])
        self.average.network.load_state_dict(state["average"])
        for one in self.further:
            one.network.load_state_dict(state["further"][one.spec.called()])
        for one in (self.average, *self.further):
            one.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        if "scaled" in state:
            self.scaled.restore(state["scaled"])
        if self.noise is not None:
            self.noise.restore(state["noise"])
        self.learner.tally.restore(state.get("tally", {}), self.world)
        self.progress = Progress(**state["progress"])
        self._timed = (self.images, self.progress.seconds)

    def _key(self) -> str:
        return self.trial.key(self.source.fingerprint)
