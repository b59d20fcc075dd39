"""Which ways lead between noise and images? Strips of the way, between two noises, back to noise, from half-way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.asked import Ask
from trainer.diffusion.log_snr import noised
from trainer.errors import UserError
from trainer.evaluation.generation import Way
from trainer.trained import Trained

SAME_LEVEL = 1e-6
"""log-SNR by which two levels count as one."""


@dataclass(frozen=True)
class Inverted:
    """An image taken to noise and brought back."""

    noise: Tensor
    """x_t [B, ...] at the grid's noisiest level."""
    again: Tensor
    """[B, ...] in [-1, 1], rounded to the data's values."""
    rms: float
    """Root mean square of the difference to the image before rounding, in the units of [-1, 1]."""
    largest: float
    """Largest difference, in the same units."""


@torch.inference_mode()
def strip(trained: Trained, ask: Ask, n: int, frames: int) -> Tensor:
    """[n, 2, frames, ...]: what the solver holds on its way to each sample, and what the network makes of it.

    x_t and x0_hat, evenly over the network's evaluations; the last frame of both is the sample.
    """
    way = trained.way(ask, _numbers(trained, range(n)))
    held: list[Tensor] = []
    believed: list[Tensor] = []

    def watched(x: Tensor, log_snr: Tensor) -> Tensor:
        x0 = way.denoise(x, log_snr)
        held.append(x.cpu())
        believed.append(x0.cpu())
        return x0

    sample = trained.codec.quantize(replace(way, denoise=watched).walk(way.start)).cpu()
    marks = torch.linspace(0, len(held) - 1, frames - 1).round().long().tolist()
    rows = [torch.stack([*(row[mark] for mark in marks), sample], 1) for row in (held, believed)]
    return torch.stack(rows, 1).clamp(-1.0, 1.0)


@torch.inference_mode()
def interpolated(trained: Trained, ask: Ask, pairs: int, steps: int) -> Tensor:
    """[pairs, steps, ...]: samples 2k and 2k + 1 at the ends, between them noise on the great circle.

    A row has the label, and the noise of the steps if there is any, of its first sample.
    """
    rows = []
    share = torch.linspace(0.0, 1.0, steps, device=trained.device)
    for pair in range(pairs):
        first, second = trained.way(ask, _numbers(trained, range(2 * pair, 2 * pair + 2))).start
        way = trained.way(ask, _numbers(trained, [2 * pair] * steps))
        rows.append(trained.codec.quantize(way.walk(slerp(first, second, share))).cpu())
    return torch.stack(rows)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points [S, ...] on the great circle from a to b [...] at `share` [S] of the angle (Shoemake 1985).

    Between independent normal noises they are again such noise, which the straight line is not.
    """
    cosine = (
        torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0).double().clamp(-1, 1)
    )
    angle = torch.acos(cosine)
    if float(angle) < 1e-4:
        left, right = 1.0 - share.double(), share.double()
    else:
        left = torch.sin((1.0 - share.double()) * angle) / torch.sin(angle)
        right = torch.sin(share.double() * angle) / torch.sin(angle)
    shape = (-1, *[1] * a.ndim)
    return left.to(a).reshape(shape) * a + right.to(a).reshape(shape) * b


@torch.inference_mode()
def inverted(trained: Trained, ask: Ask, x0: Tensor) -> Inverted:
    """x0 [B, ...] walked to noise and back on one grid (Song et al. 2021, section 4.3, for `ddim`).

    Without clipping, which cannot be undone. Raises UserError for a solver that draws noise.
    """
    solver = ask.generation.solver
    if solver.stochastic:
        raise UserError(
            f"solver {solver.label()}: draws noise on its way, which has no inverse; use another, such as ddim"
        )
    if ask.generation.steps < 2:
        raise UserError("steps: one step has no way back; use 2 or more")
    free = replace(ask, generation=ask.generation.model_copy(update={"clip": False}))
    way = trained.way(free, _numbers(trained, range(len(x0))))
    x0 = x0.to(trained.device)
    noise = solver.encode(way.denoise, way.grid, x0)
    again = way.walk(noise)
    gap = (again - x0).double()
    rms = float(gap.square().mean().sqrt())
    return Inverted(noise.cpu(), trained.codec.quantize(again).cpu(), rms, float(gap.abs().max()))


@torch.inference_mode()
def denoised(
    trained: Trained, ask: Ask, x0: Tensor, n: int, log_snr: float
) -> tuple[Tensor, Tensor]:
    """x0 [1, ...] noised to a level n times, and denoised from there (SDEdit, Meng et al. 2022): both [n, ...].

    What is denoised follows the cleaner levels of the grid. Raises UserError at a level beyond all of them.
    """
    way = trained.way(ask, _numbers(trained, range(n)))
    way = from_level(way, log_snr)
    level = torch.full((n,), log_snr, dtype=torch.float64, device=trained.device)
    x_t = noised(x0.to(trained.device).expand(n, *x0.shape[1:]), way.start, level)
    return x_t.clamp(-1.0, 1.0).cpu(), trained.codec.quantize(way.walk(x_t)).cpu()


def from_level(way: Way, log_snr: float) -> Way:
    """The rest of the way from this level on."""
    if log_snr >= float(way.grid[-1]) + SAME_LEVEL:
        raise UserError(
            f"log-SNR {log_snr:.3g}: is cleaner than the grid's last level, {float(way.grid[-1]):.3g}: "
            "there is nothing to denoise; begin further from the data"
        )
    cleaner = way.grid[way.grid > log_snr + SAME_LEVEL]
    return replace(way, grid=torch.cat([cleaner.new_tensor([log_snr]), cleaner]))


def _numbers(trained: Trained, numbers: range | list[int]) -> Tensor:
    return torch.tensor(list(numbers), device=trained.device)
