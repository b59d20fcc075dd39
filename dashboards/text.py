"""How is a number written? Short text of numbers, shares, costs, durations and lists of names."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3) -> str:
    """A number at a few significant digits, never in powers of ten between 1e-4 and 1e6."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    rounded = abs(float(f"{value:.{digits - 1}e}"))
    decimals = max(0, digits - 1 - math.floor(math.log10(rounded)))
    return f"{value:.{decimals}f}"


def rate(per_second: float) -> str:
    """A speed: three digits, from a thousand on four with a comma: `6.53`, `553`, `1,012`, `11,470`."""
    if not 999.5 <= per_second < math.inf:
        return number(per_second)
    return f"{float(f'{per_second:.4g}'):,.0f}"


def kimg(amount: float) -> str:
    """Thousands of images: `0.512`, `9.6`, `819.2`, whole from a thousand on: `25,000`."""
    return f"{amount:.4g}" if amount < 999.95 else f"{amount:,.0f}"


def with_spread(mean: float, sd: float) -> tuple[str, str]:
    """Mean and standard deviation to the same decimals: one or two digits of the deviation."""
    if sd <= 0 or not math.isfinite(sd):
        return number(mean), "0"
    fine = 1 - math.floor(math.log10(sd))
    enough = 2 - math.floor(math.log10(abs(mean))) if mean else fine
    decimals = min(6, max(0, min(fine, max(enough, fine - 1))))
    return f"{mean:.{decimals}f}", f"{sd:.{decimals}f}"


def percent(share: float | None, *, signed: bool = True) -> str:
    """A share as a percentage: `-4.6 %`, one decimal below ten, none from a hundred on."""
    if share is None or not math.isfinite(share):
        return "n/a"
    decimals = 0 if abs(share) >= 1 else 1
    text = f"{100 * share:+.{decimals}f}" if signed else f"{100 * share:.{decimals}f}"
    return f"{text.removesuffix('.0') if not signed else text} %"


def p_value(p: float) -> str:
    """`p = 0.25`, `p = 0.031`, `p < 0.001`; what is below 0.05 never looks as if it were not."""
    if p < 0.001:
        return "p < 0.001"
    text = number(p, 2)
    return "p < 0.05" if p < 0.05 and text == "0.050" else f"p = {text}"


def bare_p(p: float) -> str:
    """The same in a column that is headed `p`: `0.031`, `< 0.001`."""
    return p_value(p).removeprefix("p = ").removeprefix("p ")


def signed(value: float) -> str:
    """A difference in its own unit: `+0.0012`."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def listed(items: list[str]) -> str:
    """`6`, `6 and 9`, `6, 9 and 12`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def chance(probability: float) -> str:
    """A probability that is never certain: `0.31`, `above 0.99`."""
    if probability > 0.99:
        return "above 0.99"
    return "below 0.01" if probability < 0.01 else f"{probability:.2f}"


def times(ratio: float | None) -> str:
    """A ratio: `1.31x`."""
    return "n/a" if ratio is None else f"{ratio:.2f}x"


def hours(amount: float, unit: str) -> str:
    """A cost in the unit a person would choose: `4 CPU-minutes`, `2.5 GPU-hours`."""
    if amount * 60 < 1:
        return f"1 {unit}-minute"
    if amount < 1.5:
        return counted(round(amount * 60), f"{unit}-minute")
    return f"{number(amount, 2) if amount < 100 else f'{amount:.0f}'} {unit}-hours"


def duration(seconds: float | None, *, tenths: bool = False) -> str:
    """`17 s`, `4 min 05 s`, `2 h 10 min`; with `tenths`, `4.3 s` below ten seconds."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if tenths and seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(n: int, noun: str) -> str:
    """`1 pair`, `3 pairs`, `1,476 lines`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def share(n: int, planned: int) -> str:
    """`14`, or `7 of 14` where some are lacking."""
    return str(n) if n == planned else f"{n} of {planned}"


def names(items: list[str]) -> str:
    """`a`, `b` and `c`, in backticks."""
    quoted = [f"`{item}`" for item in items]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
