"""How are samples generated? The same numbers give the same starting noise, and the same labels, in every trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from trainer.bounds import Count, Images
from trainer.data import Codec
from trainer.diffusion.guidance import Guidance
from trainer.diffusion.process import Diffusion
from trainer.diffusion.schedule import AnySchedule, LogLinear
from trainer.diffusion.solver import AnySolver, Denoiser, DPMpp2M
from trainer.inputs import NetworkInput, bound, together
from trainer.lazily import torch
from trainer.randomness import Stream
from trainer.spec import Neutral, Spec

if TYPE_CHECKING:
    from torch import Tensor


SamplePrecision = Literal["fp32", "bf16"]


class Generation(Spec):
    """How images are generated: how many, by which solver, on which grid."""

    images: Images
    """Number of generated images."""
    steps: Count
    """Solver steps (grid levels); the table of a run reports the network evaluations they cost."""
    solver: AnySolver = DPMpp2M()
    """How do we come back from noise?"""
    grid: AnySchedule | None = LogLinear(log_snr_max=9.0, log_snr_min=-9.0)
    """Any schedule serves as grid; null: the trial's own schedule. The default is uniform in log-SNR, as the
    multistep solver needs, and equal for all cells; `validate` says which cells train fewer noise levels."""
    guidance: Guidance | None = None
    """Classifier-free guidance of a network that is told labels or tags; null: those alone."""
    clip: bool = True
    """Clip x0_hat to [-1, 1] at every step."""
    precision: Annotated[SamplePrecision, Neutral("fp32")] = "fp32"
    """What the network computes in: bf16 halves what samples cost and moves their FID by less than its noise. The
    solver's own arithmetic stays as it is. A number measured so has a protocol of its own."""

    @model_validator(mode="after")
    def _grid_has_levels(self) -> Generation:
        if self.grid is not None:
            if self.grid.learns:
                raise ValueError(
                    "grid: a learned schedule is no grid here, it would stay at its start: "
                    "use grid: null, which follows the trained one"
                )
            self.grid.check_grid(self.steps)
        return self


class Also(Spec):
    """A further protocol of the finished weights: what it names replaces what `full` says, the rest is as there."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    """How its numbers are called: `eval/fid.NAME`."""
    images: Images | None = None
    """Number of generated images; null: as `full`, as in all the others."""
    steps: Count | None = None
    """Solver steps."""
    solver: AnySolver | None = None
    """How do we come back from noise?"""
    grid: AnySchedule | None = None
    """Noise levels of the steps."""
    guidance: Guidance | None = None
    """Classifier-free guidance."""
    clip: bool | None = None
    """Clip x0_hat to [-1, 1] at every step."""
    precision: Annotated[SamplePrecision | None, Neutral(None)] = None
    """What the network computes in."""

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in ("ci_low", "ci_high"):
            raise ValueError(f"name: {name} is an interval's end in MLflow: choose another")
        if name == "full":
            raise ValueError("name: full is what the reported protocol is called: choose another")
        return name

    def of(self, full: Generation) -> Generation:
        """The whole protocol. Raises ValueError where the parts do not fit."""
        changed = {
            name: value
            for name in type(self).model_fields
            if name != "name" and (value := getattr(self, name)) is not None
        }
        kept = {name: getattr(full, name) for name in type(full).model_fields}
        try:
            return Generation.model_validate({**kept, **changed})
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"also: `{self.name}`: {said}") from None


def generate(
    network: Callable[..., Tensor],
    diffusion: Diffusion,
    codec: Codec,
    generation: Generation,
    index: range,
    noise_seed: int,
    inputs: Sequence[NetworkInput] = (),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Samples number `index` [B, ...], rounded to the data's values.

    Sample i starts from the same noise, and is conditioned on the same, in every trial of an experiment: `inputs`
    say on what.
    """
    with torch.inference_mode():
        numbers = torch.arange(index.start, index.stop, device=device)
        way = prepare(network, diffusion, codec, generation, numbers, noise_seed, inputs)
        return codec.quantize(way.walk(way.start))


@dataclass(frozen=True)
class Way:
    """Everything that samples of certain numbers are made with, bound to what the network is told."""

    generation: Generation
    denoise: Denoiser
    """(x_t [B, ...], log_snr []) -> x0_hat, guided if that was asked for."""
    grid: Tensor
    """log-SNR from noise to data, float64 [steps]."""
    start: Tensor
    """Standard normal [B, ...]: each sample's own."""
    noise: Callable[[int], Tensor]
    """Noise of the solver's steps, each sample's own."""

    def walk(self, x: Tensor) -> Tensor:
        """x0 [B, ...] from x_t at the first level of the grid."""
        return self.generation.solver.sample(self.denoise, self.grid, x, self.noise)


def prepare(
    network: Callable[..., Tensor],
    diffusion: Diffusion,
    codec: Codec,
    generation: Generation,
    numbers: Tensor,
    noise_seed: int,
    inputs: Sequence[NetworkInput] = (),
) -> Way:
    """What the samples of `numbers` int64 [B] begin with and are told."""
    if generation.precision == "bf16":
        network = _in_bf16(network)
    start = Stream(noise_seed, "generate/start").normal(numbers, codec.shape)
    grid = (generation.grid or diffusion.schedule).grid(generation.steps).to(numbers.device)
    conditions = [(one, one.generated(codec, numbers, noise_seed)) for one in inputs]
    shown = bound(network, together([values for _, values in conditions]))
    denoiser: Denoiser = diffusion.denoiser(shown, clip=generation.clip)
    if generation.guidance is not None and inputs:
        unshown = bound(network, together([one.hidden(values) for one, values in conditions]))
        without = diffusion.denoiser(unshown, clip=generation.clip)
        denoiser = generation.guidance.denoiser(denoiser, without)

    def noise(step: int) -> Tensor:
        return Stream(noise_seed, f"generate/step/{step}").normal(numbers, codec.shape)

    return Way(generation, denoiser, grid, start, noise)


def _in_bf16(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The network under autocast, its answer in the dtype of what it is given."""

    def called(x: Tensor, condition: Tensor, **told: Tensor) -> Tensor:
        # without the cache of cast weights: a recorded pass would read them where they no longer are
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            return network(x, condition, **told).to(x.dtype)

    return called
