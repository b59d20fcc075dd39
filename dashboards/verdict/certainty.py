"""What does somebody read first? One sentence of all cells, and how sure the word of each is."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.text import counted, names
from dashboards.verdict.outlook import plans
from dashboards.verdict.statistics import fewest_seeds
from dashboards.verdict.values import Comparison, Measure, Verdicts
from dashboards.verdict.wording import margin, margin_text, p_text

_MOST_NAMES, _LONGEST = 3, 60
"""Cells that are named, and their characters; of more, how many."""


def sentence(verdicts: Verdicts) -> str:
    """Every cell's word, without the numbers that stand beside it."""
    metric, base = verdicts.quantity.title, f"`{verdicts.baseline}`"
    parts: list[str] = []
    for word, reads in (
        ("BETTER", f"BETTER than {base} in {metric}"),
        ("WORSE", f"WORSE than {base} in {metric}"),
        ("SAME", f"the SAME as {base} in {metric} within {margin_text(verdicts)}"),
    ):
        if cells := [c.cell for c in verdicts.comparisons if c.word == word]:
            parts.append(f"{_who(cells)} {reads}")
    if unsettled := [c.cell for c in verdicts.comparisons if c.word == "INCONCLUSIVE"]:
        parts.append(_unsettled(unsettled, verdicts, alone=not parts))
    if verdicts.refused:
        parts.append(f"{_who([r.cell for r in verdicts.refused])} not compared")
    text = "; ".join(parts) or f"There is nothing to compare with {base}"
    return f"{text[0].upper()}{text[1:]}."


def _unsettled(cells: Sequence[str], verdicts: Verdicts, *, alone: bool) -> str:
    if not alone:
        return f"{_who(cells)} INCONCLUSIVE"
    seeds = max((c.final.tested for c in verdicts.comparisons if c.final is not None), default=0)
    who = names(list(cells)) if _is_short(cells) else f"any of {len(cells)} cells"
    base, metric = f"`{verdicts.baseline}`", verdicts.quantity.title
    return f"INCONCLUSIVE: {counted(seeds, 'seed')} cannot tell {who} from {base} in {metric}"


def _is_short(cells: Sequence[str]) -> bool:
    return len(cells) <= _MOST_NAMES and sum(map(len, cells)) <= _LONGEST


def _who(cells: Sequence[str]) -> str:
    if not _is_short(cells):
        return f"{counted(len(cells), 'cell')} {'are' if len(cells) > 1 else 'is'}"
    return f"{names(list(cells))} {'are' if len(cells) > 1 else 'is'}"


def how_sure(comparison: Comparison) -> str:
    """One line: what the word rests on, and what would settle an open one."""
    measure = comparison.final
    if measure is None:
        return "no seed has finished in both"
    if comparison.word == "SAME":
        assert measure.margin is not None
        return f"sure: the whole interval lies within {margin(measure.margin, ratio=measure.ratio)}"
    if comparison.word != "INCONCLUSIVE":
        return f"sure: {p_text(measure)}, {_agreement(measure)}"
    if measure.tested < fewest_seeds():
        few = counted(measure.tested, "seed")
        return f"too early: {few} cannot decide, {fewest_seeds()} can; {_agreement(measure)}"
    more = plans([measure])
    return f"not sure: {p_text(measure)}, {_agreement(measure)}{'; ' if more else ''}{more}"


def _agreement(measure: Measure) -> str:
    """`lower on 5 of 6 seeds`, and who was lost."""
    down = measure.effect < 0
    same = sum((effect < 0) == down and effect != 0 for effect in measure.effects)
    text = f"{'lower' if down else 'higher'} on {same} of {counted(len(measure.seeds), 'seed')}"
    lost = {"": measure.lost_cell, " by the baseline": measure.lost_baseline}
    said = [f"{counted(n, 'seed')} lost{who}" for who, n in lost.items() if n]
    if not measure.seeds:
        return ", ".join(said)
    return ", ".join([text, *said])
