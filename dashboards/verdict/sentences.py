"""How is a verdict said? Judged values to sentences, the same for terminal, page and programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from dashboards.text import counted, listed, names, number, percent, times
from dashboards.verdict.outlook import plans, settle, too_few
from dashboards.verdict.row_wording import rows_headline
from dashboards.verdict.statistics import ALPHA, fewest_seeds, range_level
from dashboards.verdict.values import (
    Comparison,
    Dropped,
    Guarantee,
    Measure,
    RowComparison,
    Verdicts,
)
from dashboards.verdict.wording import (
    effect,
    interval_text,
    is_clear_alone,
    margin,
    margin_text,
    p_text,
    size,
    span_text,
    survivors,
)
from trainer.report import Status

_UNFINISHED = "has not finished"
_OF_ONE = {
    Status.WAITING: "is missing",
    Status.RUNNING: _UNFINISHED,
    Status.STOPPED: _UNFINISHED,
    Status.DIVERGED: "diverged",
    Status.FAILED: "failed",
}
"""What a seed did that gave no pair."""
_SEVERAL = {
    Status.WAITING: "are missing",
    Status.RUNNING: "have not finished",
    Status.STOPPED: "have not finished",
}
"""The same of several, where it differs."""
_OF_MANY = {
    Status.WAITING: "lacks",
    Status.RUNNING: _UNFINISHED,
    Status.STOPPED: _UNFINISHED,
    Status.DIVERGED: "diverged on",
    Status.FAILED: "failed on",
}
"""The same of a cell, before the number of seeds."""
_LOST = (Status.DIVERGED, Status.FAILED)


def measure_sentence(measure: Measure) -> str:
    """A measure's sentence."""
    parts = [_core(measure)]
    if measure.name in ("target", "speed"):
        parts += _missed(measure)
    return " ".join([*parts, *_remarks(measure)])


def _core(measure: Measure) -> str:
    """The word and its numbers."""
    what = {
        "final": f"final {measure.title}",
        "area": f"mean {measure.title} over training",
        "target": f"kimg to {measure.title} {number(measure.target)}",
        "speed": f"speed in {measure.title}",
    }[measure.name]
    who = f"{measure.word}: {what} of `{measure.cell}` against `{measure.baseline}`"
    values = ""
    if measure.name != "speed" and measure.seeds:
        both = (measure.cell_values, measure.baseline_values)
        values = f"{' vs '.join(number(_mean(v, ratio=measure.ratio)) for v in both)}, "
    if measure.seeds:
        parts = [f"{who} is {values}{effect(measure)} over {counted(len(measure.seeds), 'pair')}."]
    else:
        parts = [f"{who} has no number: {effect(measure)}."]
    if measure.decided_at is not None and measure.decided_at != measure.tested:
        parts.append(f"It was decided at {measure.decided_at} seeds.")
    return " ".join(parts)


def _mean(values: Sequence[float], *, ratio: bool) -> float:
    """Of what is compared as a ratio the geometric one: then the two numbers have the ratio that is printed."""
    if ratio:
        return math.exp(sum(map(math.log, values)) / len(values))
    return sum(values) / len(values)


def _missed(measure: Measure) -> list[str]:
    """Who did not get there where the other did, and what that does."""
    lost = {measure.baseline: measure.lost_baseline, measure.cell: measure.lost_cell}
    who = [f"by `{cell}` alone on {counted(n, 'seed')}" for cell, n in lost.items() if n]
    if not who:
        return []
    others = ", the number is of the others" if measure.seeds else ""
    return [
        f"Not reached {' and '.join(who)}: that counts in the test as the largest difference seen"
        f"{others}."
    ]


def _remarks(measure: Measure) -> list[str]:
    """What the word hides: too-small differences, few seeds, what more would do."""
    remarks: list[str] = []
    if measure.word == "SAME":
        assert measure.margin is not None
        limit = margin(measure.margin, ratio=measure.ratio)
        remarks.append(f"The whole interval lies within the {limit} margin.")
        if measure.p_adjusted is not None and measure.p_adjusted < ALPHA:
            remarks.append("A difference is there, but too small to matter by that margin.")
    if measure.word != "INCONCLUSIVE":
        return remarks
    if not measure.ratio and measure.margin is None and measure.name == "final":
        remarks.append(
            "SAME cannot be said: set `compare.own_margin`, in the metric's own unit, for it."
        )
    n = len(measure.seeds)
    if is_clear_alone(measure) and measure.tested >= fewest_seeds():
        remarks.append(
            "Alone its interval leaves out no difference; over all cells, measures and looks of the report"
            " that is not enough."
        )
    if 1 < n < fewest_seeds():
        ends = span_text(measure, min(measure.effects), max(measure.effects))
        remarks.append(
            f"The range of {counted(n, 'pair')}, {ends}, is an exact"
            f" {percent(range_level(n), signed=False)} interval."
        )
    return [*remarks, *filter(None, [too_few(measure), settle(measure)])]


def comparison_sentence(comparison: Comparison) -> str:
    """A cell's sentence."""
    return " ".join(filter(None, [final_sentence(comparison), speed_sentence(comparison)]))


def row_sentence(compared: RowComparison) -> str:
    """A further protocol's sentence; what more seeds would do is the cell's own affair."""
    if compared.final is not None:
        return _core(compared.final)
    both = names([compared.row.name, compared.against.name])
    return f"INCONCLUSIVE: no seed finished in both of {both}."


def final_sentence(comparison: Comparison) -> str:
    """The final metric's verdict on a cell, and which seeds it could not use."""
    if comparison.final is None:
        text = f"INCONCLUSIVE: no seed finished in both `{comparison.cell}` and `{comparison.baseline}`."
    else:
        text = measure_sentence(comparison.final)
    return " ".join(filter(None, [text, dropped(comparison)]))


def dropped(comparison: Comparison) -> str:
    """`2 of 3 pairs: seed 1 of under diverged.` and what that does to the comparison."""
    if not comparison.dropped:
        return ""
    pairs = 0 if comparison.final is None else len(comparison.final.seeds)
    listed = "; ".join(_dropped_alike(comparison.dropped))
    text = f"{pairs} of {counted(comparison.planned, 'pair')}: {listed}."
    lost = list(dict.fromkeys(d.cell for d in comparison.dropped if d.status in _LOST))
    if lost and comparison.final is not None and pairs:
        text += (
            f" Mean and interval leave out trials without a number, which flatters {names(lost)}."
        )
        if comparison.final.tested > pairs:
            text += (
                " The test does not: where only one of the two has none, that counts against it"
                " like the largest difference seen."
            )
    return text


def _dropped_alike(dropped: Sequence[Dropped]) -> list[str]:
    """`seed 1 of x diverged`, `seeds 0, 1 and 4 of x are missing`: by what happened to which cell."""
    seeds: dict[tuple[str, Status], list[int]] = {}
    for item in dropped:
        seeds.setdefault((item.cell, item.status), []).append(item.seed)
    return [
        f"seed {own[0]} of `{cell}` {_OF_ONE.get(status, status)}"
        if len(own) == 1
        else f"seeds {listed([str(seed) for seed in own])} of `{cell}`"
        f" {_SEVERAL.get(status) or _OF_ONE.get(status, status)}"
        for (cell, status), own in seeds.items()
    ]


def speed_sentence(comparison: Comparison) -> str:
    """The speed-up over a range of targets, never over the best one; empty where there is none."""
    measure, lines = comparison.speed, comparison.lines
    if measure is None or lines is None or not measure.seeds:
        return ""
    easy, hard = number(lines.easy), number(lines.hard)
    by_target = ""
    if lines.slowest is not None and lines.fastest is not None:
        ends = [times(lines.slowest), times(lines.fastest)]
        by_target = "" if ends[0] == ends[1] else f"by target {ends[0]} to {ends[1]}, "
    return (
        f"Speed-up of `{comparison.cell}`, {measure.word}: {size(measure)}{survivors(measure)} over targets"
        f" from {easy} to {hard} ({by_target}{interval_text(measure)} of"
        f" {counted(len(measure.seeds), 'pair')}, {p_text(measure)})."
    )


def headline(verdicts: Verdicts) -> str:
    """The headline: every cell's word in one sentence, and what would settle the open ones."""
    metric = verdicts.quantity.title
    parts = [
        f"`{c.cell}` is {c.word} than `{c.baseline}` in {metric}: {effect(c.final)}"
        + (f", {counted(len(c.final.seeds), 'pair')}" if c.final.seeds else "")
        for c in verdicts.comparisons
        if c.word in {"BETTER", "WORSE"} and c.final is not None
    ]
    same = [c for c in verdicts.comparisons if c.word == "SAME"]
    if same:
        plural = "are the" if len(same) > 1 else "is the"
        parts.append(
            f"{names([c.cell for c in same])} {plural} SAME as `{verdicts.baseline}` in {metric}"
            f" within {margin_text(verdicts)}, {_counts(same)}"
        )
    unsettled = [c for c in verdicts.comparisons if c.word == "INCONCLUSIVE"]
    if unsettled:
        parts.append(_open(unsettled, verdicts.baseline, metric, verdicts.guarantee))
    parts += _unfinished(verdicts)
    whys = dict.fromkeys(refusal.why for refusal in verdicts.refused)
    parts += [_refused([r.cell for r in verdicts.refused if r.why == why], why) for why in whys]
    return "; ".join(filter(None, [*parts, rows_headline(verdicts)])) + "."


def _refused(cells: list[str], why: str) -> str:
    return f"{names(cells)} {'are' if len(cells) > 1 else 'is'} not compared ({why})"


def _counts(cells: Sequence[Comparison]) -> str:
    """`6 pairs`, `6 to 9 pairs`."""
    counts = sorted({len(c.final.seeds) for c in cells if c.final is not None})
    few = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    return f"{few} pair{'' if few == '1' else 's'}"


def _unfinished(verdicts: Verdicts) -> list[str]:
    """`b` diverged on 7 of 14 seeds: for the baseline and every cell which lacks some."""
    lacking = {
        (item.cell, item.status, item.seed): c.planned
        for c in verdicts.comparisons
        for item in c.dropped
    }
    counts = Counter((cell, status) for cell, status, _ in lacking)
    planned = max(lacking.values(), default=0)
    return [
        f"`{cell}` {_OF_MANY.get(status, status)} {n} of {counted(planned, 'seed')}"
        for (cell, status), n in counts.items()
    ]


def _open(cells: list[Comparison], baseline: str, metric: str, guarantee: Guarantee) -> str:
    """The INCONCLUSIVE part of the headline."""
    judged = [c.final for c in cells if c.final is not None]
    if not judged:
        which = names([c.cell for c in cells])
        return f"INCONCLUSIVE: no seed finished both in {which} and in `{baseline}`"
    counts = sorted({m.tested for m in judged})
    few = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    fewest = fewest_seeds()
    sizes = [
        f"{size(m)} for `{m.cell}`{survivors(m)}" if m.seeds else f"without a number for `{m.cell}`"
        for m in judged
    ]
    text = (
        f"INCONCLUSIVE with {few} paired seed{'' if few == '1' else 's'}:"
        f" {metric} against `{baseline}` is {listed(sizes)}"
    )
    if guarantee.following is not None:
        text += f"; the next look is at {counted(guarantee.following, 'seed')}"
    elif counts[-1] < fewest:
        seeds = "one seed" if few == "1" else f"{few} seeds"
        text += f", but {seeds} cannot reach p < .05 ({fewest} are the fewest that can)"
    return "; ".join(filter(None, [text, plans(judged)]))
