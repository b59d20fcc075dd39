"""How does a batch move the weights? Forward and backward in passes, clip, optimizer: a function of what was drawn."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from trainer.clipping import clip
from trainer.data import Batches, Drawn, Source
from trainer.diffusion.process import Asked
from trainer.distributed import World
from trainer.errors import TooLittleMemory
from trainer.footprint import too_large, too_many
from trainer.inputs import Batch, Conditions, trained
from trainer.learner import Learner
from trainer.memory import ran_out, release, told
from trainer.noise_scale import NoiseScale
from trainer.passes import Passes, SmallerPasses
from trainer.precision import Scaled
from trainer.randomness import derive, seeded
from trainer.trial import TrialSpec


@dataclass(frozen=True)
class Question:
    """Some of a batch's examples, as a network is asked about them."""

    asked: Asked
    index: Tensor
    """[B]"""
    conditions: Conditions


class Step:
    """One worker's part in one update of the weights.

    Nothing here asks the device for a number: what depends on the host (the rate, which examples) is given before.
    """

    def __init__(
        self, trial: TrialSpec, source: Source, world: World, passes: Passes, learner: Learner
    ) -> None:
        self.trial, self.source, self.world = trial, source, world
        self.passes, self.learner = passes, learner
        self.inputs = trial.live(source).network_inputs()
        self.optimizer = trial.optimizer.build(learner, undecayed=learner.schedule)
        self.scaled = Scaled(trial.train.precision, source.device)
        self.batches = Batches(source, trial.seed)
        self.has_dropout = learner.has_dropout()
        self._clipped = learner.clipped()
        counts = passes.counts()
        self.noise = NoiseScale(self._clipped[0], counts, world.size) if trial.train.gns else None
        self.parallel = DistributedDataParallel(learner) if world.size > 1 else None

    def take(self, drawn: Drawn, first: int) -> Tensor:
        """Move the weights by a batch, of which `drawn` is this worker's share, from global index `first` on.

        Its mean loss []. Raises TooLittleMemory, or SmallerPasses where all workers have to begin again.
        """
        while (loss := self._fitting(drawn, first)) is None:
            self._begin_again()
        with told(lambda: too_large(self.trial, self.source)):
            self.move()
        return loss

    def seeded(self, first: int) -> contextlib.AbstractContextManager[None]:
        """With torch's generator at the step's own place, if dropout asks it."""
        if not self.has_dropout:
            return contextlib.nullcontext()
        return seeded(derive(self.trial.seed, f"train/dropout/{first}"))

    def gradients(self, drawn: Drawn) -> Tensor:
        """Those of the batch, in passes; its mean loss []."""
        loss = torch.zeros((), device=self.source.device)
        for start, count in self.passes:
            last = start + count == self.passes.share
            loss += self._accumulate(drawn[start : start + count], last=last)
        return loss

    def move(self) -> None:
        """Along the gradients: clip, step."""
        self.scaled.unscale(self.optimizer)
        if self.noise is not None:
            self.noise.update()
        # held until the end, or Python would wrap each again for whoever looks at it
        held = [[p.grad for p in one if p.grad is not None] for one in self._clipped]
        if self.trial.optimizer.grad_clip is not None:
            for gradients in held:
                clip(gradients, self.trial.optimizer.grad_clip)
        self.scaled.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)

    def examples(self, drawn: Drawn) -> tuple[Tensor, Tensor, Conditions]:
        """x0 [B, ...], global index [B] and what the network is told, of drawn examples."""
        x0, conditions = trained(self.inputs, Batch.of(self.batches, drawn, self.trial.seed))
        return x0, drawn.index, conditions

    def example(self, index: int) -> tuple[Tensor, Tensor, Conditions]:
        """The same of one global index."""
        return self.examples(self.batches.draw(index, 1))

    def _fitting(self, drawn: Drawn, first: int) -> Tensor | None:
        """The batch's gradients are there: its mean loss []; None where a pass did not fit, but a smaller one may."""
        try:
            with self.seeded(first):
                return self.gradients(drawn)
        except Exception as error:
            if not ran_out(error):
                raise
            if (half := self.passes.half()) is None:
                why = too_many(self.passes.size, self.trial, self.source)
                raise TooLittleMemory(f"out of memory {why}") from error
            if self.world.size > 1:  # the others wait for this one
                raise SmallerPasses(half) from None
            return None  # once the error is gone, so is what it kept from being freed

    def _begin_again(self) -> None:
        """The same batch, in passes half as large: nothing is left of what was computed of it."""
        half = self.passes.half()
        assert half is not None
        self.passes.size = half
        self.forget()
        if self.noise is not None:
            self.noise.begin_again(self.passes.counts())
        gc.collect()
        release(self.source.device)

    def question(self, drawn: Drawn) -> Question:
        """What the network is asked of drawn examples."""
        x0, index, conditions = self.examples(drawn)
        return Question(
            self.learner.asked(x0, index, self.learner.foresee(index)), index, conditions
        )

    def loss(self, question: Question, answer: Tensor) -> Tensor:
        """Of the network's answer [B, C', ...]: its share of the batch's mean loss []."""
        losses = self.learner.answered(question.asked, answer, question.index, question.conditions)
        return losses.sum() / self.passes.share

    def forget(self) -> None:
        """What was computed of a batch that moved nothing."""
        self.optimizer.zero_grad(set_to_none=True)
        self.learner.forget()

    def _accumulate(self, drawn: Drawn, *, last: bool) -> Tensor:
        """Add the gradients of some of the batch's examples; returns their share of its mean loss []."""
        examples = self.examples(drawn)
        alone = self.parallel is not None and not last  # workers meet once per batch
        with self.parallel.no_sync() if self.parallel and alone else contextlib.nullcontext():
            with self.scaled.autocast():
                foreseen = self.learner.foresee(drawn.index)
                losses = (self.parallel or self.learner)(*examples, foreseen)
                loss = losses.sum() / self.passes.share
            self.scaled.backward(loss)
        if self.noise is not None:
            self.noise.passed(len(drawn.index), self.scaled.factor())
        return loss.detach()


class Alone:
    """The step of one training."""

    def __init__(self, step: Step) -> None:
        self.members = (step,)

    def gradients(self, drawn: Sequence[Drawn]) -> list[Tensor]:
        """As of the step."""
        return [self.members[0].gradients(drawn[0])]

    def move(self) -> None:
        """As the step."""
        self.members[0].move()

    def forget(self) -> None:
        """As the step."""
        self.members[0].forget()
