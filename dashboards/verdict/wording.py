"""How are a verdict's numbers written? Effects, intervals by their names, p values; the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.text import (
    counted,
    number,
    p_value,
    percent,
    signed,
    times,
    with_spread,
)
from dashboards.verdict.statistics import Interval, spread
from dashboards.verdict.values import Measure, Verdicts

_MANY = 9.0
"""Ratios of ten and more are no percentages."""
METHODS = {
    "sign-flip": "95 % CI",
    "t": "95 % t CI",
    "anytime": "95 % anytime CI",
    "constant": "95 % CI",
    "none": "95 % CI",
}
"""What an interval is called: inverted sign flips, Student's t below six pairs, evidence at any time."""


def mean_and_spread(values: Sequence[float]) -> tuple[str, str]:
    """`4.11` and `0.13`: mean and standard deviation of some values; no deviation of a single one."""
    if not values:
        return "n/a", ""
    both = spread(values)
    return (number(both.mean), "") if both.sd is None else with_spread(both.mean, both.sd)


def size(measure: Measure) -> str:
    """The effect: `-5.1 %`, `1.31x` of a speed-up, `+0.0012` in the metric's own unit."""
    if not measure.seeds:
        return "none"
    return one_effect(measure, measure.effect)


def one_effect(measure: Measure, value: float) -> str:
    """Any effect of a measure: its mean, an end of its interval, one seed's."""
    if not measure.ratio:
        return signed(value)
    if measure.name == "speed":
        return times(1 + value)
    return percent(value) if value < _MANY else f"{number(1 + value)}x"


def ends_text(measure: Measure) -> str:
    """`-9.1 to +0.2 %`; `none` where there is no interval."""
    low, high = measure.interval.low, measure.interval.high
    if low is None or high is None:
        return "none"
    return span_text(measure, low, high)


def span_text(measure: Measure, low: float, high: float) -> str:
    """Two effects, the unit behind both if they share it: `-9.1 to +0.2 %`, `+800 % to 12x`."""
    first, last = one_effect(measure, low), one_effect(measure, high)
    return f"{first.removesuffix(' %') if last.endswith(' %') else first} to {last}"


def interval_text(measure: Measure) -> str:
    """`95 % t CI -9.1 to +0.2 %`; says so when there is none."""
    if not measure.interval.known:
        return "no 95 % CI"
    return f"{METHODS[measure.interval.method]} {ends_text(measure)}"


def band_text(ends: Interval) -> str:
    """`3.99 to 5.68 (95 % t CI, 3 seeds)`: the interval of a cell's own mean."""
    if ends.low is None or ends.high is None:
        return "no interval of one seed"
    return (
        f"{number(ends.low)} to {number(ends.high)}"
        f" ({METHODS[ends.method]}, {counted(ends.n, 'seed')})"
    )


def effect(measure: Measure) -> str:
    """The difference with its interval and p: what both terminal and page show."""
    if not measure.seeds:
        return f"no surviving seed ({p_text(measure)})"
    return f"{size(measure)}{survivors(measure)} ({interval_text(measure)}, {p_text(measure)})"


def survivors(measure: Measure) -> str:
    """` on 7 surviving seeds`, where the test counts more than the number does; empty where none survive."""
    n = len(measure.seeds)
    return "" if n in (0, measure.tested) else f" on {counted(n, 'surviving seed')}"


def p_text(measure: Measure) -> str:
    """The adjusted p, with the seeds it is of if there are more; before the first look the comparison's own."""
    if measure.p_adjusted is None:
        return f"{p_value(measure.p)} alone"
    later = measure.word == "INCONCLUSIVE" and measure.p_at is not None
    at = f" at {measure.p_at} seeds" if later and measure.tested > (measure.p_at or 0) else ""
    return p_value(measure.p_adjusted) + at


def is_clear_alone(measure: Measure) -> bool:
    """Whether an open measure's own interval leaves out no difference."""
    low, high = measure.interval.low, measure.interval.high
    if measure.word != "INCONCLUSIVE" or low is None or high is None:
        return False
    return not low <= 0 <= high


def margin(value: float, *, ratio: bool) -> str:
    """A margin: a share, or a number in the metric's own unit."""
    return percent(value, signed=False) if ratio else number(value)


def margin_text(verdicts: Verdicts) -> str:
    """`2 %`, or in the metric's own unit; `unknown` where none was given."""
    if verdicts.margin is None:
        return "unknown"
    return margin(verdicts.margin, ratio=verdicts.quantity.ratio)
