"""What is one training, completely? A TrialSpec: nothing else decides the numbers it gives."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field, field_validator, model_validator

from trainer import CORE_VERSION
from trainer.bounds import MOST_EVALUATIONS, Count, Kimg, Seed
from trainer.data import AnyData, Source
from trainer.diffusion.process import Diffusion
from trainer.ema import EMA, Averages, Ramp
from trainer.errors import UserError
from trainer.evaluation import METRIC_VERSION
from trainer.evaluation.protocol import Evaluation
from trainer.evaluation.published import content
from trainer.inputs import AnyInput, Labels, NetworkInput, unguided
from trainer.models import AnyModel
from trainer.optimizer import AdamW, AnyOptimizer
from trainer.precision import AskedPrecision
from trainer.spec import Neutral, Spec
from trainer.start import Start
from trainer.yaml.trials import trial_tree


class Train(Spec):
    """The budget and how a step is computed."""

    kimg: Annotated[float, Field(ge=1e-6, le=1e9)]
    """Budget: thousands of training images seen. Equal budgets make trials comparable."""
    batch_size: Count = 128
    """Global batch, over all workers and accumulation."""
    microbatch: Count | None = None
    """Images per forward pass on one worker; null: all of the worker's share at once."""
    precision: AskedPrecision = "fp32"
    """bf16, fp16: automatic mixed precision of forward and backward; weights and optimizer stay fp32. fp16 scales its
    loss, and skips the steps where that is too much (`train/skipped_steps`). auto: fp32, or bf16 where steps are at
    least a tenth faster; timed once for an experiment, before its first trial, and part of its trials from then on."""
    checkpointing: Annotated[bool, Neutral(False)] = False
    """Compute a network's blocks again for the gradient instead of keeping what they computed: less memory, the same
    gradients, about a third more time."""
    compile: bool = False
    """torch.compile the network, its averages and what samples are made with: pays off from some thousand steps on.
    A graph is compiled once, and kept in the home's cache for all trials. Numbers agree with eager ones to rounding."""
    gns: Annotated[bool, Neutral(False)] = False
    """Log the gradient noise scale as `train/gns`: the batch, in images, beyond which more images help little. It
    compares the parts of a batch: the passes of `microbatch`, or the workers' shares; one that is whole is halved."""
    tally_gradients: Annotated[int, Field(ge=0, le=10**9), Neutral(0)] = 0
    """Look at the gradients of 16 examples of the batch, one by one, every so many steps; 0: never. Their mean squared
    norm by noise level is a column of `loss_by_noise_level`. No number of the training changes by it."""
    label_dropout: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of labels hidden from a network with `classes`, as classifier-free guidance needs (0.1 is usual)."""
    log_every_kimg: Kimg | None = None
    """Spacing of the points of `train/loss`; null: a hundred over the budget."""


class TrialSpec(Spec):
    """One training: data, network, diffusion, optimizer, average, budget, evaluation and seed."""

    data: AnyData
    """What is learned."""
    model: AnyModel
    """The network."""
    inputs: Annotated[tuple[AnyInput, ...], Neutral(())] = ()
    """What the network is told beside the noise level; labels come with `model.classes`."""
    start_from: Annotated[Start | None, Neutral(None)] = None
    """A trained model whose weights are the first ones, where they fit; null: those of the seed."""
    diffusion: Diffusion = Diffusion()
    """Schedule, timestep sampler, weighting, prediction, objective."""
    optimizer: AnyOptimizer = AdamW()
    """How the weights are moved."""
    ema: Averages = Ramp()
    """Which average of the weights is evaluated. Of a list, the first is; the others are measured too, at the end."""
    train: Train
    """The budget."""
    evaluation: Evaluation
    """How the trial is measured."""
    seed: Seed = 0
    """Seed of initial weights, data order, noise and times; shared by the cells it pairs."""

    @model_validator(mode="after")
    def _consistent(self) -> "TrialSpec":
        if self.steps() < 1:
            raise ValueError(
                f"train.kimg: {self.train.kimg:g} is less than one batch of {self.train.batch_size}: "
                f"write {self.train.batch_size / 1000:g} or more"
            )
        every = self.evaluation.every_kimg
        if every is not None and self.train.kimg / every > MOST_EVALUATIONS:
            raise ValueError(
                f"evaluation.every_kimg: {every:g} makes {self.train.kimg / every:.2g} evaluations of "
                f"{self.train.kimg:g} kimg, more than {MOST_EVALUATIONS:,}: write a larger interval"
            )
        if self.train.label_dropout and self.model.classes is None:
            raise ValueError("train.label_dropout: the network has no labels; set model.classes")
        for name, generation in self.evaluation.generations():
            if generation.guidance and (why := unguided(self.network_inputs())):
                raise ValueError(f"evaluation.{name}.guidance: {why}")
            learned = getattr(self.diffusion.objective, "variance", None)
            wanted = getattr(generation.solver, "variance", None)
            if wanted == "learned" and learned not in ("learned", "learned_range"):
                raise ValueError(
                    f"evaluation.{name}.solver.variance: learned needs an objective that learns one (hybrid, vlb), "
                    f"not {self.diffusion.objective.kind}; use a number from 0 (small) to 1 (large)"
                )
            own = self.diffusion.schedule.steps
            if generation.grid is None and own and generation.steps > own:
                raise ValueError(
                    f"evaluation.{name}.steps: {generation.steps} exceeds the schedule's {own} levels: "
                    f"use {own} or fewer, or leave `grid` out"
                )
        return self

    @field_validator("ema")
    @classmethod
    def _averages_have_names(cls, ema: EMA | tuple[EMA, ...]) -> EMA | tuple[EMA, ...]:
        if not isinstance(ema, tuple):
            return ema
        names = [each.called() for each in ema]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two averages are called `{twice}`: give them a `name` each")
        return ema[0] if len(ema) == 1 else ema

    @field_validator("inputs")
    @classmethod
    def _each_once(cls, inputs: tuple[AnyInput, ...]) -> tuple[AnyInput, ...]:
        kinds = [one.kind for one in inputs]
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is there twice: the network is told a thing once")
        return inputs

    @model_validator(mode="after")
    def _data_is_fit(self) -> "TrialSpec":
        for one in self.network_inputs():
            one.foresee(self.data)
        for space in self.evaluation.spaces():
            space.foresee(self.data)
        return self

    @model_validator(mode="after")
    def _is_told_something(self) -> "TrialSpec":
        guided = [name for name, one in self.evaluation.generations() if one.guidance is not None]
        for hiding in filter(None, (one.hiding() for one in self.network_inputs())):
            if hiding.share >= 1.0 and guided:
                raise ValueError(
                    f"{hiding.path}: 1 hides the {hiding.what} of every example, so that "
                    f"evaluation.{guided[0]}.guidance has nothing to go by: write 0.1, or leave guidance out"
                )
        return self

    @model_validator(mode="after")
    def _noise_scale_has_parts(self) -> "TrialSpec":
        draw = self.diffusion.timesteps.draw
        if self.train.gns and draw != "independent":
            raise ValueError(
                f"train.gns: compares parts of a batch, which are not independent where times are drawn {draw}: "
                "use diffusion.timesteps.draw: independent, or leave it out"
            )
        if self.train.gns and self.train.batch_size < 2:
            raise ValueError("train.gns: a batch of one has no parts: raise train.batch_size")
        return self

    @classmethod
    def from_yaml(cls, path: Path | str, overrides: Iterable[str] = ()) -> "TrialSpec":
        """Read a complete trial, such as a preset; `overrides` are `path=value` texts, such as `train.kimg=20`.

        InputError lists all problems with their lines, and refuses a YAML of an experiment.
        """
        return cast(TrialSpec, trial_tree(path, overrides, cls).model_or_raise())

    def steps(self) -> int:
        """Optimizer steps of the whole budget."""
        return round(1000 * self.train.kimg / self.train.batch_size)

    def total_images(self) -> int:
        """The budget in images: a whole number of batches."""
        return self.steps() * self.train.batch_size

    def evaluation_points(self) -> list[int]:
        """Images seen at each evaluation, rising; the last is `total_images()`."""
        return self.evaluation.points(self.total_images(), self.train.batch_size)

    def averages(self) -> tuple[EMA, ...]:
        """The average that is evaluated, then the further ones."""
        return self.ema if isinstance(self.ema, tuple) else (self.ema,)

    def network_inputs(self) -> tuple[NetworkInput, ...]:
        """Everything that is bound to the network before the core calls it: labels, then `inputs`."""
        if self.model.classes is None:
            return self.inputs
        return (Labels(classes=self.model.classes, rate=self.train.label_dropout), *self.inputs)

    def live(self, source: Source) -> "TrialSpec":
        """The same, whose inputs have the data at hand that they show to samples."""
        return self.model_copy(update={"inputs": tuple(one.live(source) for one in self.inputs)})

    def key(self, fingerprint: str, held_out: str = "") -> str:
        """20 hex digits naming this trial: resolved spec, data fingerprint, versions of core and metrics.

        `held_out` is the fingerprint of the test split, where something is measured on it. Published statistics count
        by their numbers, once the data does (by their path without a fingerprint, or where the file is absent).

        Fields that change no number are left out: where the data and the first weights lie, the spacing of the loss
        curve, gradients by noise level, standard errors and, unless a solver adapts its steps to the batch, how many
        samples are generated together.
        """
        spec = self.identity()
        spec["data"] = {k: v for k, v in spec["data"].items() if k not in self.data.incidental}
        del spec["train"]["log_every_kimg"]
        spec["train"].pop("tally_gradients", None)
        if self.start_from is not None:  # by its weights, wherever they lie
            spec["start_from"] = self.start_from.weights
        levels = self.data.levels
        if levels != 255 and self.diffusion.objective.decodes(self.diffusion.schedule):
            spec["decoder"] = levels  # once, all data had 8-bit bins there
        spec["evaluation"].pop("error_groups", None)
        if self.evaluation.is_published and fingerprint:
            with suppress(UserError):
                spec["evaluation"]["reference"] = content(self.evaluation.reference)
        generations = self.evaluation.generations()
        if not any(generation.solver.adaptive for _, generation in generations):
            del spec["evaluation"]["batch_size"]
        text = f"{json.dumps(spec, sort_keys=True)}|{fingerprint}|{CORE_VERSION}|{METRIC_VERSION}"
        if self.evaluation.looks_at_test:
            text += f"|{held_out}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]
