"""How far is each cell from the baseline? A forest plot as places on a line, in percent of its width.

The page draws it with plain elements (`templates/forest.html`): it needs no script, it is there at the first paint,
it prints, and it is as wide as the screen is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dashboards.text import percent, signed
from dashboards.verdict.values import Measure
from dashboards.verdict.wording import ends_text, interval_text, one_effect, size

_NEAR = math.log(3.0)
"""Log ratio up to which a cell says which range is seen, if any cell is that near."""
_ROOM = 0.04
_APART = 16.0
"""Percent of the width between two ticks, at least."""
_STEPS = tuple(m * 10.0**k for k in range(-6, 4) for m in (1, 2, 5))


@dataclass(frozen=True)
class Dot:
    """One seed."""

    at: float
    text: str
    beyond: bool
    """Whether it lies outside what is seen, and stands at the edge."""


@dataclass(frozen=True)
class Strip:
    """One cell's line: its seeds, their mean and its interval; no interval where none is known."""

    cell: str
    name: str
    """What stands before it."""
    mean: float
    ends: tuple[float, float] | None
    dots: tuple[Dot, ...]
    size: str
    interval: str
    label: str
    """What it says to somebody who does not see it."""


@dataclass(frozen=True)
class Forest:
    """Lines under one axis."""

    title: str
    strips: tuple[Strip, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float
    margin: tuple[float, float] | None
    left: str
    """What it means to lie on this side of zero."""
    right: str


def forest(
    measures: Sequence[Measure], title: str, names: Sequence[str] | None = None
) -> Forest | None:
    """Of measures of one kind, in their order; those without a pair are left out. None where none is left."""
    every = zip(measures, names or [m.cell for m in measures], strict=True)
    drawn = [(measure, name) for measure, name in every if measure.seeds]
    if not drawn:
        return None
    first = drawn[0][0]
    low, high = _range([measure for measure, _ in drawn])
    place = _places(first.ratio, low, high)
    margin = None if first.margin is None else (place(-first.margin), place(first.margin))
    better, worse = ("better", "worse") if _is_left_better(first) else ("worse", "better")
    return Forest(
        title=title,
        strips=tuple(_strip(measure, name, place) for measure, name in drawn),
        ticks=_ticks(first, low, high, place),
        zero=place(0.0),
        margin=margin,
        left=better,
        right=worse,
    )


def _is_left_better(measure: Measure) -> bool:
    return measure.name == "target" or (measure.lower_is_better and measure.name != "speed")


def _strip(measure: Measure, name: str, place: Callable[[float], float]) -> Strip:
    ends = (measure.interval.low, measure.interval.high)
    said = [
        f"seed {s}: {one_effect(measure, e)}"
        for s, e in zip(measure.seeds, measure.effects, strict=True)
    ]
    at = [place(effect) for effect in measure.effects]
    return Strip(
        cell=measure.cell,
        name=name,
        mean=_inside(place(measure.effect)),
        ends=None
        if ends[0] is None or ends[1] is None
        else (_inside(place(ends[0])), _inside(place(ends[1]))),
        dots=tuple(
            Dot(_inside(x), text, not 0 <= x <= 100) for x, text in zip(at, said, strict=True)
        ),
        size=size(measure),
        interval=ends_text(measure) if measure.interval.known else "no interval",
        label=f"{name}: {size(measure)}, {interval_text(measure)}; {', '.join(said)}",
    )


def _inside(place: float) -> float:
    return round(min(100.0, max(0.0, place)), 2)


def _scaled(value: float, ratio: bool) -> float:
    return math.log1p(max(value, -0.999)) if ratio else value


def _range(measures: Sequence[Measure]) -> tuple[float, float]:
    """What is seen, on the scale of differences: zero, the seeds of near cells, and of their intervals what is near."""
    ratio = measures[0].ratio
    near = [m for m in measures if abs(_scaled(m.effect, True)) <= _NEAR] if ratio else []
    ends = [0.0]
    for measure in near or measures:
        dots = [_scaled(effect, ratio) for effect in measure.effects]
        reach = 1.5 * (max(dots) - min(dots)) or math.inf
        bounds = [b for b in (measure.interval.low, measure.interval.high) if b is not None]
        ends += dots
        ends += [min(max(_scaled(b, ratio), min(dots) - reach), max(dots) + reach) for b in bounds]
        if measure.margin is not None:
            ends += [_scaled(measure.margin, ratio), _scaled(-measure.margin, ratio)]
    if near:
        ends = [min(max(end, -_NEAR), _NEAR) for end in ends]
    low, high = min(ends), max(ends)
    room = _ROOM * (high - low or 1.0)
    return low - room, high + room


def _places(ratio: bool, low: float, high: float) -> Callable[[float], float]:
    return lambda value: 100.0 * (_scaled(value, ratio) - low) / (high - low)


def _ticks(
    measure: Measure, low: float, high: float, place: Callable[[float], float]
) -> tuple[tuple[float, str], ...]:
    """Zero, and on both sides multiples of the smallest round step, less those whose words would meet."""
    ends = (math.expm1(low), math.expm1(high)) if measure.ratio else (low, high)
    least = _APART / 100.0 * (high - low)
    step = next(s for s in _STEPS if min(_scaled(s, measure.ratio), s) >= least or s == _STEPS[-1])
    kept = [0.0]
    for sign, end in ((1, ends[1]), (-1, ends[0])):
        last = 0.0
        for k in range(1, math.floor(sign * end / step) + 1):
            if abs(place(sign * k * step) - place(last)) >= _APART:
                last = sign * k * step
                kept.append(last)
    return tuple((round(place(value), 2), _tick(measure, value)) for value in sorted(kept))


def _tick(measure: Measure, value: float) -> str:
    if abs(value) < 1e-12:
        return "1\N{MULTIPLICATION SIGN}" if measure.name == "speed" else "0"
    if not measure.ratio:
        return signed(value).replace("-", "\N{MINUS SIGN}")
    if measure.name == "speed":
        return f"{1 + value:.3g}\N{MULTIPLICATION SIGN}"
    return percent(value).replace(".0 %", " %").replace("-", "\N{MINUS SIGN}")
