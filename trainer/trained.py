"""What can be done with a trained model alone? Generate and measure, without the data set."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.asked import Ask, Choice, Names, asked, inputs_of
from trainer.data import Absent, Codec
from trainer.diffusion.guidance import Guidance
from trainer.diffusion.process import Diffusion
from trainer.distributed import World, best_device
from trainer.errors import CheckpointError, DataError, UserError, listing
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.generation import Generation, Way, generate, prepare
from trainer.evaluation.measurement import Measurement, Part
from trainer.evaluation.protocol import Evaluation
from trainer.inputs import Labels, NetworkInput, SuperResolution, kept
from trainer.learner import Learner
from trainer.record import Record
from trainer.replayed import Forward
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
    held_out: str | None
    """The same of its test split, if something was measured on it."""
    images: int
    """Training images it has seen."""
    device: torch.device
    learned: dict[str, Tensor] = field(default_factory=dict)
    """State of what learned beside the network, by its names in the `Learner`."""

    @classmethod
    def load(
        cls, record: Record | Path | str, device: str = "auto", average: str | None = None
    ) -> Trained:
        """From a trial's directory; raises CheckpointError where there is no whole checkpoint.

        `average` names another than the evaluated one: a further one of the trial's `ema`, or one that was made
        afterwards (`trainer.averages`). UserError where there is none of that name.
        """
        record = record if isinstance(record, Record) else Record(Path(record))
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
        weights, made_at = _average(record, trial, state, average, on)
        network.load_state_dict(weights)
        trial = trial.live(kept(state.get("kept"), codec, state["fingerprint"], on))
        images = made_at or int(state["progress"]["images"])
        beside = {
            name: v for name, v in state["learner"].items() if not name.startswith("network.")
        }
        known = (codec, state["fingerprint"], state.get("held_out"), images, on)
        return cls(trial, network, learner.diffusion, *known, beside)

    def digest(self) -> str:
        """16 hex digits of the weights: equal for equal weights under equal names."""
        found = hashlib.sha256()
        for name, value in self.network.state_dict().items():
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return found.hexdigest()[:16]

    def refuse_broken(self) -> None:
        """UserError where some weight is no finite number: nothing that it makes would mean anything."""
        for name, value in self.network.state_dict().items():
            if not bool(torch.isfinite(value).all()):
                raise UserError(
                    f"the model's weights are not finite (`{name}`): its training diverged; sample an earlier one, or "
                    "train with a smaller learning rate"
                )

    # What is asked

    def ask(
        self,
        generation: Generation | None = None,
        *,
        labels: Names = None,
        tags: Names = None,
        guidance: float | Guidance | None = None,
        seed: int | None = None,
        together: int | None = None,
    ) -> Ask:
        """Which samples are wanted; what is left out is as in the trial's full protocol.

        `labels` are numbers or names, given to samples 0, 1, ... in turn; `tags` are what every sample has, and it has
        no others; a number as `guidance` is its scale. Raises UserError for labels and tags that are unknown, and for
        guidance of a model that was not trained for it.
        """
        wanted = Choice(labels, tags, guidance, seed, together)
        return asked(self.trial, self.codec, self.device, generation, wanted)

    # Samples

    def sample(
        self,
        n: int,
        generation: Generation | None = None,
        *,
        labels: Names = None,
        tags: Names = None,
        guidance: float | Guidance | None = None,
        seed: int | None = None,
        together: int | None = None,
    ) -> Tensor:
        """Samples 0 to n - 1 [n, ...] in [-1, 1], on the processor; arguments as of `ask`."""
        if n < 0:
            raise UserError(f"n: {n} samples cannot be made: write 0 or more")
        ask = self.ask(
            generation, labels=labels, tags=tags, guidance=guidance, seed=seed, together=together
        )
        return self.drawn(ask, range(n))

    @torch.inference_mode()
    def drawn(
        self, ask: Ask, index: range, on_more: Callable[[int], None] = lambda _count: None
    ) -> Tensor:
        """Samples number `index` [B, ...] in [-1, 1], on the processor; `on_more` hears how many came."""
        parts = []
        for first in range(index.start - index.start % ask.together, index.stop, ask.together):
            whole = torch.arange(first, first + ask.together, device=self.device)
            way = self.way(ask, whole)
            wanted = slice(max(index.start - first, 0), min(index.stop - first, ask.together))
            parts.append(self.codec.quantize(way.walk(way.start))[wanted].cpu())
            on_more(len(parts[-1]))
        return torch.cat(parts) if parts else torch.empty(0, *self.codec.shape)

    def way(self, ask: Ask, numbers: Tensor) -> Way:
        """What the samples of `numbers` int64 [B] are made with."""
        return prepare(
            self.network,
            self.diffusion,
            self.codec,
            ask.generation,
            numbers,
            ask.seed,
            inputs_of(self.trial, ask),
        )

    def labels(self, ask: Ask, n: int) -> Tensor | None:
        """The labels int64 [n] of samples 0 to n - 1; None for a model without."""
        told = [one for one in inputs_of(self.trial, ask) if isinstance(one, Labels)]
        numbers = torch.arange(n)
        return told[0].generated(self.codec, numbers, ask.seed)["labels"] if told else None

    def generate(
        self,
        generation: Generation | None = None,
        index: range | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Samples number `index` [B, ...] in [-1, 1], on the processor, as many together as in an evaluation.

        What is left out is as the trial was measured: its full protocol, all images, the noise of the first draw
        (`trial.evaluation.noises("full")` are the seeds of all of them).
        """
        evaluation = self.trial.evaluation
        chosen = generation or evaluation.full
        numbers = range(chosen.images) if index is None else index
        network = Forward(self.network)
        parts = [
            generate(
                network,
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
        evaluator = self.evaluator(self.trial.evaluation, cache)
        return evaluator.measure(self.network, part, World(0, 1))

    def evaluator(self, spec: Evaluation, cache: Path) -> Evaluator:
        """What measures under `spec` where the data is absent; DataError where the cache lacks something of it."""
        train = Absent(self.codec, self.fingerprint, self.device)
        test = None if self.held_out is None else replace(train, fingerprint=self.held_out)
        if spec.looks_at_test and test is None:
            raise DataError(
                "data: this model was not measured on the test split: load the data, and evaluate with it"
            )
        return Evaluator(spec, self.diffusion, train, cache, self.trial.network_inputs(), test)

    def enlarging(self, small: Path | Tensor) -> Trained:
        """The same, whose samples are made for small images in turn: [N, C, h, w] in [-1, 1], or those of a file
        (`SuperResolution.of_file`).

        UserError for a model that does not enlarge, DataError for a file that is not of its kind.
        """
        shape, own = self.enlarges(), self.trial.inputs
        if isinstance(small, Tensor) and tuple(small.shape[1:]) != shape:
            raise UserError(
                f"images of shape {list(small.shape[1:])}: this model enlarges {list(shape)}: resize them first"
            )

        def shown(one: SuperResolution) -> NetworkInput:
            if isinstance(small, Tensor):
                return one.of_images(small)
            return one.of_file(small, self.codec)

        inputs = tuple(shown(one) if isinstance(one, SuperResolution) else one for one in own)
        return replace(self, trial=self.trial.model_copy(update={"inputs": inputs}))

    def enlarges(self) -> tuple[int, ...]:
        """Shape [C, h, w] of the small images that it enlarges; UserError for a model that enlarges none."""
        own = next((one for one in self.trial.inputs if isinstance(one, SuperResolution)), None)
        if own is None:
            raise UserError(
                "this model enlarges nothing: it was trained without `inputs: [{kind: super_resolution}]`"
            )
        return own.small(self.codec.shape)


def _average(
    record: Record, trial: TrialSpec, state: dict[str, Any], name: str | None, on: torch.device
) -> tuple[dict[str, Tensor], int | None]:
    """Weights of the average of this name, and the images at its end where that is not the checkpoint."""
    first, *further = (one.called() for one in trial.averages())
    if name is None or name == first:
        return state["average"], None
    if name in further:
        return state["further"][name], None
    made = record.made.names()
    if name not in made:
        raise UserError(
            f"average {name}: there is none of this name; the trial has {listing([first, *further, *made])}"
        )
    found = record.made.load(name, on)
    return found.network, found.images
