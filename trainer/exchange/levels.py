"""How is a schedule written as diffusers' table of betas, and a noise level as its timestep?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.diffusion.process import Diffusion
from trainer.models.embedding import SCALE
from trainer.models.peer import diffusers

CONTINUOUS = 1000
"""Levels of a table that is made of a continuous schedule."""
LARGEST_BETA = 0.999
"""As published tables have it: in float32 a larger one would lose what is left of the signal."""
SAME_TABLE = 1e-6
"""alpha^2 by which diffusers' own table of a name may differ and still be ours: float32 sums of a thousand terms."""
PREDICTIONS = {"epsilon": "epsilon", "data": "sample", "velocity": "v_prediction"}
"""Our kinds to diffusers' names."""


@dataclass(frozen=True)
class Table:
    """The levels k = 0 ... N - 1 of an exported model, cleanest first; k is diffusers' timestep."""

    log_snr: Tensor
    """float64 [N]."""

    @classmethod
    def of(cls, diffusion: Diffusion) -> Table:
        """The published table of a discrete schedule; of a continuous one its limit at 1000 times."""
        schedule = diffusion.schedule
        steps = schedule.steps or CONTINUOUS
        with torch.no_grad():
            levels = schedule.table(steps).detach().cpu().double()
        kept = torch.sigmoid(levels).tolist()
        for k in range(1, steps):
            kept[k] = max(kept[k], kept[k - 1] * (1.0 - LARGEST_BETA))
        alpha_squared = torch.tensor(kept, dtype=torch.float64)
        bounded = torch.log(alpha_squared) - torch.log1p(-alpha_squared)
        return cls(torch.where(torch.sigmoid(levels) < alpha_squared, bounded, levels))

    def __len__(self) -> int:
        return len(self.log_snr)

    def betas(self) -> list[float]:
        """beta_k such that diffusers' float32 products of 1 - beta end, at every k, as near alpha^2 as they can."""
        product, betas = 1.0, []
        for target in torch.sigmoid(self.log_snr).tolist():
            beta = np.float32(max(1.0 - target / product, 0.0))
            product *= float(np.float32(1.0) - beta)
            betas.append(float(beta))
        return betas

    def scheduler(self, prediction: str, *, clip: bool, labels: bool = False) -> Any:
        """diffusers' DDIM on these levels, by a name that it knows if there is one.

        The pipeline that takes `labels` cannot ask DDIMScheduler for the noise of the clipped x0_hat. The step of
        DPM-Solver++ of first order is DDIM's (Lu et al. 2022, section 4), from x0_hat alone, and thresholds of at
        least and at most 1 clip it.
        """
        options: dict[str, Any] = {
            "num_train_timesteps": len(self),
            "prediction_type": prediction,
            "timestep_spacing": "trailing",
        }
        library = diffusers()
        if clip and labels:
            kind = library.DPMSolverMultistepScheduler
            options |= {"algorithm_type": "dpmsolver++", "solver_order": 1}
            options |= {"thresholding": True, "sample_max_value": 1.0}
        else:
            kind = library.DDIMScheduler
            options["clip_sample"] = clip
        for named in self._names():
            scheduler = kind(**options, **named)
            if self._equals(scheduler.alphas_cumprod):
                return scheduler
        return kind(**options, trained_betas=self.betas())

    def _names(self) -> list[dict[str, Any]]:
        """What the table would be called if it were one of diffusers'."""
        first, *_, last = self.betas()
        ends = {"beta_start": first, "beta_end": last}
        usual = {"beta_start": 1e-4, "beta_end": 0.02}
        linear: list[dict[str, Any]] = [
            {"beta_schedule": kind, **each}
            for kind in ("linear", "scaled_linear")
            for each in (usual, ends)
        ]
        return [*linear, {"beta_schedule": "squaredcos_cap_v2"}]

    def _equals(self, alpha_squared: Tensor) -> bool:
        gap = (alpha_squared.double() - torch.sigmoid(self.log_snr)).abs()
        return float(gap.max()) < SAME_TABLE


def is_shifted_time(diffusion: Diffusion, table: Table) -> bool:
    """Whether the network is told k + 1 at level k, in diffusers' units: then its sinusoids need no table."""
    if diffusion.conditioning != "time":
        return False
    told = diffusion.condition(table.log_snr) * SCALE
    return len(table) == CONTINUOUS and torch.allclose(
        told, torch.arange(1.0, 1001.0).double(), atol=1e-6
    )


def turned(weight: Tensor, phase: float, *, last: bool, period: float = 1e4) -> Tensor:
    """The first layer [out, width] behind sinusoids of p that answers as `weight` behind those of p + phase.

    cos and sin of a sum are a rotation of those of its parts; `last` as in `trainer.models.embedding.sinusoidal`.
    """
    half = weight.shape[1] // 2
    ramp = torch.arange(half, dtype=torch.float64) / max(half - last, 1)
    angle = phase * torch.exp(-np.log(period) * ramp)
    exact = weight.detach().cpu().double()
    cos, sin = exact[:, :half], exact[:, half : 2 * half]
    parts = [cos * angle.cos() + sin * angle.sin(), sin * angle.cos() - cos * angle.sin()]
    return torch.cat([*parts, exact[:, 2 * half :]], 1).to(weight.dtype)
