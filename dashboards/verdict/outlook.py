"""What would settle what is open, and what stands behind the words? Looks, seeds and guarantees, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.text import chance, counted, hours, listed, number, percent
from dashboards.verdict.planning import Outlook
from dashboards.verdict.statistics import fewest_seeds, smallest_p
from dashboards.verdict.values import Guarantee, Measure


def too_few(measure: Measure) -> str:
    """Why no word but INCONCLUSIVE was within reach; empty where one was."""
    n, fewest = measure.tested, fewest_seeds()
    if n >= fewest:
        return ""
    if n == 0:
        return "No seed tells the two apart."
    if n == 1:
        return (
            f"One pair decides nothing; {fewest} are the fewest that can, for any number of cells."
        )
    return (
        f"{counted(n, 'pair')} screen, they cannot decide: a sign-flip test of {n} cannot go below"
        f" p = {number(smallest_p(n), 2)}; {fewest} are the fewest that can reach p < .05, for any"
        " number of cells."
    )


def settle(measure: Measure) -> str:
    """A sentence on what more seeds would do for an open measure; empty for a settled one."""
    text = _would(measure.outlook, measure)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _would(outlook: Outlook | None, measure: Measure) -> str:
    if outlook is None:
        return ""
    text = f"{_seeds(outlook)} {_find(outlook, measure)}"
    if outlook.decides is not None:
        text += f", and decide this one with probability {chance(outlook.decides)}"
    if outlook.hours:
        more = "" if outlook.is_new else " more"
        text += f" (about {hours(outlook.hours, outlook.cost_unit)}{more})"
    return text


def _find(outlook: Outlook, measure: Measure) -> str:
    if outlook.detects == float("inf"):
        return "can find nothing"
    least = _size(outlook.detects, measure)
    return f"would find a difference of {least} or more in 80 % of experiments"


def _seeds(outlook: Outlook) -> str:
    return f"{counted(outlook.seeds, 'seed')}{' in a new experiment' if outlook.is_new else ''}"


def _size(value: float, measure: Measure) -> str:
    """Of an effect on the scale of the differences; of a ratio its logarithm, a tenth of a percent at least."""
    return percent(max(value, 0.001), signed=False) if measure.ratio else number(value)


def plans(judged: Sequence[Measure]) -> str:
    """The same for several open cells, which share the noise: their seeds, and the hardest probability."""
    known = [m for m in judged if m.outlook is not None]
    if not known or known[0].outlook is None:
        return ""
    first = known[0].outlook
    text = f"{_seeds(first)} {_find(first, known[0])}"
    chances = [m.outlook.decides for m in known if m.outlook and m.outlook.decides is not None]
    if len(chances) == len(known) == 1:
        return f"{text} and decide with probability {chance(chances[0])}"
    if len(chances) == len(known):
        ends = [chance(p) for p in (min(chances), max(chances))]
        each = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        return f"{text} and decide each with probability {each}"
    return text


def looks(guarantee: Guarantee) -> str:
    """Which looks there are, how far they are, and what the words' error rate holds for."""
    planned = [str(n) for n in guarantee.looks]
    rate = (
        "at most 5 % of experiments without a difference yield any BETTER or WORSE, over all cells,"
        " measures and looks"
    )
    if guarantee.anytime:
        return (
            f"{'One look was' if len(planned) == 1 else 'Looks were'} planned, at {listed(planned)} seeds,"
            " and there are more seeds. Beyond the plan, words rest on evidence that may be read at any"
            f" time (e-values), and much more of it is needed: {rate.replace('5 %', '5.1 %')}. To look"
            " several times, plan it before the first look: `seeds: {first: ..., most: ...}`."
        )
    if len(planned) == 1:
        begin = f"One look was planned, at {counted(guarantee.looks[0], 'seed')}"
    else:
        begin = f"Looks are planned at {listed(planned)} seeds, {guarantee.passed} of them done"
    if guarantee.following is None:
        return f"{begin}: {rate}."
    return f"{begin}; the next word falls at {counted(guarantee.following, 'seed')}: {rate}."
