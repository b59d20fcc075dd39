"""What does an hour of a device cost, and what do so many hours? By DIFFSWEEP_PRICE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.resources import DeviceHours

_MOST = 1e6
_FORM = re.compile(r"(?P<rates>.*[\d.])\s*(?P<unit>[^\W\d_]{1,8}|[€$£¥])?", re.DOTALL)
_RATE = re.compile(r"(?:(?P<device>[a-z]+)\s*=\s*)?(?P<number>\d+(?:\.\d*)?|\.\d+)")
_MEND = (
    "write 2.5 for an hour of a trial's GPU, or of its CPU where it has none; 2.5 EUR with a unit; "
    "gpu=2.5,cpu=0.04 EUR for both"
)


@dataclass(frozen=True)
class Money:
    """An amount, and how it came about."""

    amount: float
    unit: str
    """As it was given; empty if none was."""
    rate: str
    """`2.5 EUR per GPU-hour`."""

    def text(self) -> str:
        """`12.30 EUR`, `1,240 EUR`."""
        number = f"{self.amount:,.0f}" if self.amount >= 999.5 else f"{self.amount:.2f}"
        if 0 < self.amount < 0.005:
            number = "less than 0.01"
        return f"{number} {self.unit}".strip()


@dataclass(frozen=True)
class Price:
    """Money per hour of a device."""

    gpu: float | None = None
    cpu: float | None = None
    any: float | None = None
    """Of what a trial mainly occupies: a GPU, without one a CPU."""
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> Price:
        """`2.5`, `2.5 USD`, `gpu=2.5,cpu=0.04 EUR`. ValueError with the way out."""
        whole = _FORM.fullmatch(text.strip())
        rates: dict[str, float] = {}
        for part in whole["rates"].split(",") if whole else ():
            rate = _RATE.fullmatch(part.strip())
            device = (rate["device"] or "any") if rate else ""
            if rate is None or device not in ("any", "gpu", "cpu") or device in rates:
                raise ValueError(f"`{text}` is no price: {_MEND}")
            rates[device] = float(rate["number"])
        if whole is None or ("any" in rates and len(rates) > 1):
            raise ValueError(f"`{text}` is no price: {_MEND}")
        for cost in rates.values():
            if not 0 < cost <= _MOST:
                raise ValueError(
                    f"an hour costs more than 0 and at most {_MOST:,.0f}, not {cost:g}"
                )
        return cls(**rates, unit=whole["unit"] or "")

    def of(self, hours: DeviceHours) -> Money | None:
        """What so many hours of devices cost, in all; None where they have no price."""
        known = [
            ("GPU", self.gpu, hours.gpu, "GPU" in hours.kinds),
            ("CPU", self.cpu, hours.cpu, True),
        ]
        if self.any is not None:
            known = [
                ("GPU", self.any, hours.gpu, "GPU" in hours.kinds),
                ("CPU", self.any, hours.bare_cpu, "CPU" in hours.kinds),
            ]
        used = [(name, rate, took) for name, rate, took, is_used in known if rate and is_used]
        if not used:
            return None
        rates = [f"{rate:g} {self.unit}".strip() + f" per {name}-hour" for name, rate, _ in used]
        return Money(sum(rate * took for _, rate, took in used), self.unit, " and ".join(rates))
