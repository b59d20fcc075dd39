"""How are samples generated? The same numbers give the same starting noise, and the same labels, in every trial."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data import Codec
from trainer.diffusion.process import Diffusion
from trainer.diffusion.solver import Denoiser
from trainer.evaluation.protocol import Generation
from trainer.inputs import NetworkInput, bound, together
from trainer.randomness import Stream


@torch.inference_mode()
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
