"""How is one optimizer step made? Learner, average, optimizer and progress of a trial, as one object."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from trainer.checkpoint import own
from trainer.checkpointing import recompute_blocks
from trainer.compiling import compile_network
from trainer.data import Drawn, Source
from trainer.diffusion.passport import untrainable
from trainer.diffusion.process import Diffusion
from trainer.distributed import World
from trainer.ema import Average, Power
from trainer.errors import CheckpointError, UserError
from trainer.flops import flops_per_image
from trainer.inputs import keep
from trainer.learner import Learner
from trainer.memory import keep_freed, ran_out
from trainer.optimizer.base import set_rates
from trainer.passes import Passes
from trainer.progress import Progress, log_every
from trainer.replayed import Replayed
from trainer.second_moment import SecondMoment
from trainer.step import Alone, Step
from trainer.trial import TrialSpec

T = TypeVar("T")


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
        keep_freed(source.device)
        if (why := untrainable(trial.diffusion)) is not None:
            raise UserError(why)
        for one in trial.network_inputs():
            one.check(source)
        self.passes = passes or Passes(trial, world)
        self.learner = Learner(trial, source.codec.shape).to(source.device)
        network = self.learner.network
        on_gpu = source.device.type == "cuda"
        if trial.train.compile and on_gpu and trial.optimizer.records:
            network.to(memory_format=torch.channels_last)  # compiled convolutions are faster so
        first, *further = (
            Average(spec, network, copy.deepcopy(network)) for spec in trial.averages()
        )
        self.average, self.further = first, further
        self._copied = [
            (one, one.spec.marks(trial.steps()))
            for one in (first, *further)
            if isinstance(one.spec, Power)
        ]
        if trial.train.checkpointing:
            recompute_blocks(network)
        if trial.train.compile:
            for compiled in (network, *(average.network for average in (first, *further))):
                compile_network(compiled)
        self.update = Step(trial, source, world, self.passes, self.learner)
        self.optimizer, self.scaled = self.update.optimizer, self.update.scaled
        self.noise, self.inputs = self.update.noise, self.update.inputs
        self._rates = trial.optimizer.rates(len(self.optimizer.param_groups))
        self._replayed = Replayed(Alone(self.update))
        self.shared_room: Callable[[], bool] | None = None
        """Gives back the memory of steps that are recorded with others'."""
        self._raised: Exception | None = None
        self.progress = Progress()
        every = trial.train.tally_gradients
        self._moment = SecondMoment(self.learner, trial.train.batch_size, every) if every else None
        self._every = log_every(trial)
        self._pending: list[Tensor] = []
        """Losses of batches that the host has not asked for yet."""
        self._mark = time.perf_counter()
        self._timed = (0, 0.0)
        """Images and seconds of the progress when the current interval began."""

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
        self.take(self.draw())

    def attempt(self) -> None:
        """As `step`, but what it raises waits for `check`: whoever takes the step need not be who knows what to do."""
        with self.keeping():
            self.step()

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """What is raised within waits for `check`."""
        try:
            yield
        except Exception as error:
            self._raised = error

    def check(self) -> None:
        """Raise what was kept, if anything was."""
        error, self._raised = self._raised, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # it holds this frame, and what lies on the device

    def take(self, drawn: Drawn) -> None:
        """Move the weights by the batch that was drawn."""
        found = self._replayed.take([drawn], [self.first])
        self.moved(self.update.take(drawn, self.first) if found is None else found[0])

    def draw(self) -> Drawn:
        """The next batch, for which all is set: weights that were moved by it may be told to `moved`."""
        share, first = self.passes.share, self.first
        if self._moment is not None:
            mine = range(first - self.images, first - self.images + share)
            seed = self.trial.seed if self.update.has_dropout else None
            self._moment.look(self.images, mine, self.update.example, seed)
        self._set_rate()
        return self.update.batches.draw(first, share)

    def moved(self, loss: Tensor) -> None:
        """The weights have moved by the batch that was drawn, whose mean loss is that []."""
        self._pending.append(loss)
        self.learner.observe(self.world)
        for average in (self.average, *self.further):
            average.update()
        self.progress.images += self.trial.train.batch_size

    @property
    def first(self) -> int:
        """Global index of the next batch's first example that is this worker's."""
        return self.images + self.world.rank * self.passes.share

    def _set_rate(self) -> None:
        optimizer, batch = self.trial.optimizer, self.trial.train.batch_size
        factor = optimizer.lr_schedule.factor(self.images, self.trial.total_images(), batch)
        set_rates(self.optimizer, [base * factor for base in self._rates])

    def due_snapshots(self) -> list[Average]:
        """The averages of which a copy is to be kept now."""
        return [one for one, marks in self._copied if self.average.updates in marks]

    def with_room(self, work: Callable[[], T]) -> T:
        """What `work` gives; where memory runs out, once more without what the next step would find ready."""
        try:
            return work()
        except Exception as error:
            if not (ran_out(error) and self.make_room()):
                raise
        return work()

    def make_room(self) -> bool:
        """Give back the memory of recorded steps, its own and those that it shares; whether there were any."""
        own = self._replayed.release()
        return (self.shared_room is not None and self.shared_room()) or own

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

    def count(self, seconds: float) -> None:
        """What a step took that was taken while the clock stood still: of one that others shared, its part."""
        self.progress.seconds += seconds

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
            "learner": own(self.learner.state_dict()),
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
        self.trial.optimizer.settle(self.optimizer)
        self._replayed = Replayed(Alone(self.update))
        if "scaled" in state:
            self.scaled.restore(state["scaled"])
        if self.noise is not None:
            self.noise.restore(state["noise"])
        self.learner.tally.restore(state.get("tally", {}), self.world)
        self.progress = Progress(**state["progress"])
        self._timed = (self.images, self.progress.seconds)

    def _key(self) -> str:
        return self.trial.key(self.source.fingerprint)
