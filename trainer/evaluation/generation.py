"""How are samples generated? The same numbers give the same starting noise, and the same labels, in every trial."""

from collections.abc import Callable, Sequence

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
    start = Stream(noise_seed, "generate/start").normal(numbers, codec.shape)
    grid = (generation.grid or diffusion.schedule).grid(generation.steps).to(device)
    conditions = [(one, one.generated(codec, numbers, noise_seed)) for one in inputs]
    shown = bound(network, together([values for _, values in conditions]))
    denoiser: Denoiser = diffusion.denoiser(shown, clip=generation.clip)
    if generation.guidance is not None and inputs:
        unshown = bound(network, together([one.hidden(values) for one, values in conditions]))
        without = diffusion.denoiser(unshown, clip=generation.clip)
        denoiser = generation.guidance.denoiser(denoiser, without)
    x0 = generation.solver.sample(
        denoiser,
        grid,
        start,
        lambda step: Stream(noise_seed, f"generate/step/{step}").normal(numbers, codec.shape),
    )
    return codec.quantize(x0)
