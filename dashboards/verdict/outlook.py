"""What would settle what is open? The seeds it would take, in words."""

from __future__ import annotations

from dashboards.text import counted, hours, number
from dashboards.verdict.planning import MOST_SEEDS, POWER, MoreSeeds
from dashboards.verdict.statistics import fewest_seeds, smallest_p
from dashboards.verdict.values import Measure

_FEWEST_FOR_NOISE = 3
"""Pairs; two tell their noise only within a factor of hundreds."""


def too_few(measure: Measure) -> list[str]:
    """Why no word but INCONCLUSIVE was within reach; empty where one was."""
    n, fewest = measure.tested, fewest_seeds(measure.comparisons)
    if n >= fewest:
        return []
    if n == 1:
        return [f"One pair decides nothing; {fewest} are the fewest that can reach p < .05."]
    lowest = f"p = {number(smallest_p(n), 2)}"
    if measure.comparisons > 1:
        least = number(smallest_p(n, measure.comparisons), 2)
        lowest += f" ({least} after Holm over {measure.comparisons} cells)"
    return [
        f"{counted(n, 'pair')} screen, they cannot decide: a sign-flip test of {n} cannot go below"
        f" {lowest}; {fewest} are the fewest that can reach p < .05."
    ]


def more(measure: Measure) -> str | None:
    """`about 126 more seeds (55 to more than 1000) would settle it (about 3 CPU-minutes)`.

    With fewer than three pairs it says that no number is known; None when not even `MOST_SEEDS` do.
    """
    plan = measure.more
    if plan is None:
        return None
    if measure.tested < _FEWEST_FOR_NOISE:
        return "too few pairs to say how many more seeds would settle it"
    if plan.more is None:
        return None
    band = "" if plan.low == plan.high == plan.more else f" ({_band(plan)})"
    seeds = f"{'about ' if band else ''}{counted(plan.more, 'more seed')}{band}"
    cost = (
        ""
        if measure.cost_hours is None
        else f" (about {hours(measure.cost_hours, measure.cost_unit)})"
    )
    return f"{seeds} would settle it{cost}"


def _band(plan: MoreSeeds) -> str:
    """`55 to more than 1000`: further seeds by the smallest and largest noise the pairs allow."""
    beyond = f"more than {MOST_SEEDS}"
    low, high = (beyond if n is None else str(n) for n in (plan.low, plan.high))
    return f"{low} to {high}" if low != high else low


def _never(plan: MoreSeeds) -> str:
    """No count is known, but the pairs may allow so little noise that one is."""
    luck = "" if plan.low is None else f" ({_band(plan)} by what the pairs know of the noise)"
    return f"not even {MOST_SEEDS} seeds would settle it{luck}"


def settle(measure: Measure) -> str:
    """A sentence on the seeds that would settle an open measure; empty for a settled one."""
    plan = measure.more
    if plan is None:
        return ""
    text = more(measure) or f"{_never(plan)}, if the true difference is the one seen"
    text = f"{text[0].upper()}{text[1:]}"
    if measure.tested < _FEWEST_FOR_NOISE or plan.more is None:
        return f"{text}."
    chance = f"{100 * POWER:.0f} % probability"
    known = "" if plan.low == plan.high else "; the band is what the pairs know of the noise"
    return f"{text} with {chance} if the true difference is the one seen{known}."


def plans(judged: list[Measure]) -> str:
    """What would settle the open cells: one count if they agree, each its own if few."""
    texts = {m.cell: more(m) or _never(m.more) for m in judged if m.more is not None}
    if len(set(texts.values())) == 1:
        return texts[judged[0].cell]
    if len(texts) <= 3:
        return ", ".join(text.replace("settle it", f"settle `{c}`") for c, text in texts.items())
    if any(m.tested < _FEWEST_FOR_NOISE for m in judged):
        return "too few pairs to say how many more seeds would settle all of it"
    known = [m for m in judged if more(m) is not None]
    if len(known) < len(judged):
        return f"not even {MOST_SEEDS} seeds would settle all of it"
    hardest = max(known, key=lambda m: (m.more.more if m.more is not None else None) or 0)
    return (more(hardest) or "").replace("settle it", "settle all of it")
