"""Made-up experiments of which the truth is known: whole trials with curves, as a verdict reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dashboards.verdict.evidence import Curve, Evidence, Further, Quantity, Trial
from trainer.report import Status

Noise = Literal["gaussian", "log-normal", "t3"]
Floats = NDArray[np.float64]

QUANTITIES = {
    "eval/fid": Quantity("FID", lower_is_better=True),
    "rung/fid": Quantity("FID (cheap protocol)", lower_is_better=True),
    "eval/kid": Quantity("KID", lower_is_better=True, ratio=False),
    "rung/kid": Quantity("KID (cheap protocol)", lower_is_better=True, ratio=False),
}
SD = 0.05
"""Standard deviation of a trial's own noise, relative."""
PAIR_SD = SD * math.sqrt(2 * (1 + 0.2**2))
"""Of a pair's difference in the final metric."""
_KIMG = 57.6 * 2.0 ** -np.arange(5, -1, -1)
_SHAPE = 3.0 + 30.0 * (_KIMG / _KIMG[0]) ** -1.2
"""Falls from 33 to 3.5: a plateau at the end."""


@dataclass(frozen=True)
class World:
    """What is true of an experiment, and how noisy it is."""

    noise: Noise
    effects: tuple[float, ...]
    """Log ratio of every rival's values to the baseline's."""
    metric: str = "eval/fid"
    margin: float = 0.02
    further: int = 0
    """Further protocols of every training, with noise of their own and no effect."""

    def draw(self, seeds: int, rng: np.random.Generator) -> Evidence:
        """One experiment: a seed's noise is shared by all cells, a trial's and an evaluation's are its own."""
        effects = np.array([0.0, *self.effects])
        own = _standard(self.noise, (seeds, len(effects)), rng)
        shared = _standard(self.noise, (seeds, 1), rng)
        single = _standard(self.noise, (seeds, len(effects), len(_KIMG) + 1), rng)
        level = SD * (own + 2 * shared) + effects
        finals = np.exp(math.log(3.0) + level + 0.2 * SD * single[..., -1])
        curves = np.exp(np.log(_SHAPE) + level[..., None] + 0.4 * SD * single[..., :-1])
        rung = "rung/" + self.metric.partition("/")[2]
        again = _standard(self.noise, (seeds, len(effects), self.further), rng)
        others = np.exp(math.log(3.0) + level[..., None] + 0.2 * SD * again)
        cells = tuple(f"c{place}" for place in range(len(effects)))
        protocols = tuple(Further(f"p{k}", f"{self.metric}.p{k}") for k in range(self.further))
        trials = tuple(
            Trial(
                cell,
                seed,
                Status.FINISHED,
                images=57_600,
                finals={self.metric: float(finals[seed, place])}
                | {one.metric: float(others[seed, place, k]) for k, one in enumerate(protocols)},
                curves={rung: Curve(_KIMG, curves[seed, place])},
            )
            for place, cell in enumerate(cells)
            for seed in range(seeds)
        )
        return Evidence(
            trials,
            cells,
            self.metric,
            QUANTITIES | {one.metric: QUANTITIES[self.metric] for one in protocols},
            cells[0],
            margin=self.margin,
            further=dict.fromkeys(cells, protocols),
        )


def _standard(noise: Noise, shape: Sequence[int], rng: np.random.Generator) -> Floats:
    """Mean 0, standard deviation 1."""
    if noise == "gaussian":
        return rng.standard_normal(shape)
    if noise == "t3":
        return np.asarray(rng.standard_t(3, shape) / math.sqrt(3))
    skewed = np.exp(rng.standard_normal(shape))
    mean, variance = math.exp(0.5), math.e * (math.e - 1)
    return np.asarray((skewed - mean) / math.sqrt(variance))
