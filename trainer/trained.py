"""What can be done with a trained model alone? Generate and measure, without the data set."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.data import Absent, Codec
from trainer.diffusion.process import Diffusion
from trainer.distributed import World, best_device
from trainer.errors import CheckpointError
from trainer.evaluation.evaluator import Evaluator, Measurement, Part
from trainer.evaluation.generation import generate
from trainer.evaluation.protocol import Generation
from trainer.learner import Learner
from trainer.record import Record
from trainer.trial import TrialSpec


@dataclass(frozen=True)
class Trained:
    """A trial's newest checkpoint, ready to use."""

    trial: TrialSpec
    network: nn.Module
    """The averaged weights, in evaluation mode."""
    diffusion: Diffusion
    """The trial's, as its members have learned."""
    codec: Codec
    fingerprint: str
    """Of the data set."""
    images: int
    """Training images it has seen."""
    device: torch.device

    @classmethod
    def load(cls, record: Record | Path, device: str = "auto") -> Trained:
        """From a trial's directory; raises CheckpointError where there is no whole checkpoint."""
        record = record if isinstance(record, Record) else Record(record)
        on = best_device(device)
        trial = record.trial()
        state, notes = (None, []) if trial is None else record.newest_state(on)
        if trial is None or state is None:
            why = f": {notes[0]}" if notes else ""
            raise CheckpointError(
                f"{record.directory} holds no trained model{why}; train it first, or name another directory"
            )
        codec = Codec.from_state(state["codec"])
        learner = Learner(trial, codec.shape).to(on)
        learner.load_state_dict(state["learner"])
        network = copy.deepcopy(learner.network).requires_grad_(False).eval()
        network.load_state_dict(state["average"])
        images = int(state["progress"]["images"])
        return cls(trial, network, learner.diffusion, codec, state["fingerprint"], images, on)

    def generate(
        self,
        generation: Generation | None = None,
        index: range | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Samples number `index` [B, ...] in [-1, 1], on the processor.

        What is left out is as the trial was measured: its full protocol, all images, the noise of the first draw
        (`trial.evaluation.noises("full")` are the seeds of all of them).
        """
        evaluation = self.trial.evaluation
        chosen = generation or evaluation.full
        numbers = range(chosen.images) if index is None else index
        parts = [
            generate(
                self.network,
                self.diffusion,
                self.codec,
                chosen,
                numbers[first : first + evaluation.batch_size],
                evaluation.noise_seed if seed is None else seed,
                self.trial.network_inputs(),
                self.device,
            ).cpu()
            for first in range(0, len(numbers), evaluation.batch_size)
        ]
        return torch.cat(parts)

    def measure(self, cache: Path, part: Part = "full") -> Measurement:
        """The metrics under one of the trial's protocols, from the same noises.

        `cache` must hold what was measured of the data when it was trained (DataError otherwise).
        """
        source = Absent(self.codec, self.fingerprint, self.device)
        evaluator = Evaluator(
            self.trial.evaluation, self.diffusion, source, cache, self.trial.network_inputs()
        )
        return evaluator.measure(self.network, part, World(0, 1))
