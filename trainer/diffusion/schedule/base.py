"""What is a schedule? It maps t in [0, 1] (0 is data, 1 is noise) to log-SNR, and back.

With `steps: N` a schedule is its published discrete table: training visits only the N table
entries, table entry k standing at t = (k + 1) / N. With `steps: null` it is the continuous limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from trainer.bounds import MANY
from trainer.diffusion.constant import constant
from trainer.diffusion.numeric import derivative, interpolate
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn


DISCRETE_MIN = 2
LOG_SNR_LIMIT = 30.0
"""Log-SNR is kept within +-30 (alpha or sigma 3e-7), so that both ends of every schedule are finite."""
SMALLEST_RANGE = 1.0
"""Least distance in log-SNR of the two ends of a schedule that learns."""

ROUNDING = 256.0
"""Machine epsilons of log-SNR by which a level may lie beyond an end, or an entry, and still count as that one."""


class Schedule(Spec):
    """log_snr(t), strictly decreasing: the continuous curve and, if one was published, the table."""

    finite_start: ClassVar[bool] = False
    """Whether log_snr(0) is finite in the continuous limit, so that a grid may include t = 0."""
    learns: ClassVar[bool] = False
    """Whether it changes while it trains: its own methods are its start, those of `live` its present."""

    steps: Annotated[int, Field(ge=DISCRETE_MIN, le=MANY)] | None = None
    """Number of discrete noise levels of the published table; null: the continuous limit."""

    def continuous(self, t: Tensor) -> Tensor:
        """log_snr at t in [0, 1] in the continuous limit; may be infinite at the ends."""
        raise NotImplementedError

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Inverse of `continuous`, within [0, 1]."""
        raise NotImplementedError

    def table(self, steps: int) -> Tensor:
        """log_snr of the `steps` discrete levels, float64 [steps]; entry k stands at t = (k + 1) / steps."""
        level = self.continuous(torch.arange(1, steps + 1, dtype=torch.float64) / steps)
        return level.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def log_snr(self, t: Tensor) -> Tensor:
        """log_snr at t in [0, 1], any shape. Discrete: the table, joined by straight lines in t."""
        if self.steps is None:
            return self.continuous(t).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
        nodes, values = self._nodes(t)
        return interpolate(t, nodes, values)

    def time(self, log_snr: Tensor) -> Tensor:
        """The t in [0, 1] at which the schedule has this log-SNR (clamped to its ends), any shape."""
        if self.steps is None:
            return self.continuous_time(log_snr).clamp(0.0, 1.0)
        nodes, values = self._nodes(log_snr)
        return interpolate(-log_snr, -values, nodes).clamp(0.0, 1.0)

    def training_time(self, u: Tensor) -> Tensor:
        """Times that training visits for uniform u in (0, 1): the next table entry, or u itself."""
        if self.steps is None:
            return u
        return (torch.floor(u * self.steps) + 1.0).clamp(1.0, float(self.steps)) / self.steps

    def snap(self, log_snr: Tensor) -> Tensor:
        """The nearest table entry (in t); a continuous schedule returns `log_snr` as it is."""
        if self.steps is None:
            return log_snr
        return self.log_snr((self.time(log_snr) * self.steps).round().clamp(min=1.0) / self.steps)

    def slowness(self, log_snr: Tensor) -> Tensor:
        """-dt/dlog_snr >= 0: the density over log-SNR of a time drawn uniformly from [0, 1].

        Exact up to both ends, zero beyond them. A table's is that of the line that leads to the level from its
        cleaner neighbour: the cell of t whose draws the entry takes.
        """
        slack = ROUNDING * torch.finfo(log_snr.dtype).eps
        if self.steps is not None:
            nodes, values = self._nodes(log_snr)
            entry = torch.searchsorted(-values, -log_snr - slack).clamp(1, self.steps)
            slow = (nodes[entry] - nodes[entry - 1]) / (values[entry - 1] - values[entry])
            clean, noisy = values[0], values[-1]
        else:
            slow = self.continuous_slowness(log_snr)
            ends = torch.arange(2, dtype=log_snr.dtype, device=log_snr.device)
            clean, noisy = self.continuous(ends).unbind()
        inside = (log_snr <= clean + slack) & (log_snr >= noisy - slack)
        return torch.where(inside, slow, 0.0)

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """-dt/dlog_snr of the continuous limit between its ends: the derivative of `continuous_time`.

        Written out by members whose inverse is an iteration or loses digits when it is differentiated.
        """
        return -derivative(self.continuous_time, log_snr)

    def check_grid(self, steps: int) -> None:
        """Raises ValueError where there is no `grid(steps)`."""
        if self.steps is not None and steps > self.steps:
            raise ValueError(
                f"{steps} solver steps on a schedule of {self.steps} levels: use steps <= {self.steps}"
            )

    def grid(self, steps: int) -> Tensor:
        """Noise levels for `steps` solver steps, float64 [steps], from t = 1 towards data.

        The step after the last level goes to x0. Times are evenly spaced from 1 down to the first
        table entry, to 0 where log_snr(0) is finite, else to 1/steps.
        """
        self.check_grid(steps)
        first = 1.0 / (self.steps or steps)
        if self.steps is None and self.finite_start:
            first = 0.0
        t = (
            torch.linspace(1.0, first, steps, dtype=torch.float64)
            if steps > 1
            else torch.ones(1, dtype=torch.float64)
        )
        if self.steps is not None:
            t = (t * self.steps).round() / self.steps
        return self.log_snr(t)

    def ends(self) -> tuple[float, float]:
        """log_snr at the cleanest and at the noisiest level that training visits."""
        first = 0.0 if self.steps is None else 1.0 / self.steps
        clean, noise = self.log_snr(torch.tensor([first, 1.0], dtype=torch.float64)).tolist()
        return clean, noise

    def build(self) -> nn.Module | None:
        """The weights of a schedule that learns; they belong to optimizer and checkpoint."""
        return None

    def live(self, curve: nn.Module) -> Schedule:
        """This schedule on the module that `build` gave, as it stands at every call."""
        raise NotImplementedError

    def _nodes(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Knots of the piecewise-linear curve through the table, prolonged to t = 0 on its first slope."""
        nodes, values = _knots(self, like=like)
        return nodes, values


@constant
def _knots(schedule: Schedule) -> tuple[Tensor, Tensor]:
    assert schedule.steps is not None
    values = schedule.table(schedule.steps)
    values = torch.cat([2.0 * values[:1] - values[1:2], values])
    return torch.arange(schedule.steps + 1, dtype=torch.float64) / schedule.steps, values


def logit_from_log(log_alpha_squared: Tensor) -> Tensor:
    """log(a/(1-a)) from log a, accurate for a near 1: -log(expm1(-log a))."""
    return -torch.log(torch.expm1(-log_alpha_squared))


def decay_from(log_snr: Tensor) -> Tensor:
    """-log alpha^2 >= 0, the inverse of `logit_from_log` with the sign turned."""
    return torch.nn.functional.softplus(-log_snr)
