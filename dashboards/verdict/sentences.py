"""How is a verdict said? Judged values to sentences, the same for terminal, page and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dashboards.text import (
    counted,
    names,
    number,
    p_value,
    percent,
    times,
    with_spread,
)
from dashboards.verdict.outlook import plans, settle, too_few
from dashboards.verdict.statistics import ALPHA, Interval, fewest_seeds, spread
from dashboards.verdict.values import Comparison, Dropped, Measure, Verdicts
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
_OF_MANY = {
    Status.WAITING: "lacks",
    Status.RUNNING: _UNFINISHED,
    Status.STOPPED: _UNFINISHED,
    Status.DIVERGED: "diverged on",
    Status.FAILED: "failed on",
}
"""The same of a cell, before the number of seeds."""


def mean_and_spread(values: Sequence[float]) -> tuple[str, str]:
    """`4.11` and `0.13`: mean and standard deviation of some values; no deviation of a single one."""
    if not values:
        return "n/a", ""
    both = spread(values)
    return (number(both.mean), "") if both.sd is None else with_spread(both.mean, both.sd)


def interval_text(ends: Interval, scale: float | None) -> str:
    """`95 % CI -9.1 to +0.2 %`, relative where `scale` is known; says so when there is none."""
    level = f"{100 * ends.level:.0f} %"
    if ends.low is None or ends.high is None:
        return f"no {level} CI"
    if scale is None:
        return f"{level} CI {number(ends.low)} to {number(ends.high)}"
    low, high = percent(ends.low / scale), percent(ends.high / scale)
    return f"{level} CI {low.removesuffix(' %')} to {high}"


def effect(measure: Measure) -> str:
    """The difference with its interval and p: what both terminal and page show."""
    size = percent(measure.relative) if measure.relative is not None else number(measure.mean)
    return f"{size}{_survivors(measure)} ({interval_text(measure.interval, measure.scale)}, {_p(measure)})"


def _survivors(measure: Measure) -> str:
    """` on 7 surviving seeds`, where the test counts more than the number does."""
    n = len(measure.seeds)
    return "" if n == measure.tested else f" on {counted(n, 'surviving seed')}"


def _p(measure: Measure) -> str:
    if measure.comparisons > 1:
        return f"Holm {p_value(measure.p_holm)}"
    return p_value(measure.p)


def measure_sentence(measure: Measure) -> str:
    """A measure's sentence."""
    what = {
        "final": f"final {measure.title}",
        "area": f"mean {measure.title} over training",
        "target": f"kimg to {measure.title} {number(measure.target)}",
    }[measure.name]
    values = " vs ".join(
        number(sum(v) / len(v)) for v in (measure.cell_values, measure.baseline_values)
    )
    parts = [
        f"{measure.word}: {what} of `{measure.cell}` against `{measure.baseline}` is {values},"
        f" {effect(measure)} over {counted(len(measure.seeds), 'pair')}."
    ]
    censored = measure.censored_baseline + measure.censored_cell
    if censored:
        parts.append(
            f"Censored: the target was never reached by `{measure.baseline}` in"
            f" {measure.censored_baseline} and by `{measure.cell}` in {measure.censored_cell} of"
            f" {counted(len(measure.seeds), 'pair')}; their time counts as the whole budget."
        )
    return " ".join([*parts, *_remarks(measure)])


def _remarks(measure: Measure) -> list[str]:
    """What the word hides: too-small differences, too-short intervals, too few seeds."""
    limit = f"{percent(measure.margin, signed=False)} margin"
    remarks: list[str] = []
    if measure.word == "SAME":
        remarks.append(f"The whole interval lies within the {limit}.")
        if measure.p_holm < ALPHA:
            remarks.append("A difference is there, but too small to matter by that margin.")
    if measure.word != "INCONCLUSIVE" or measure.more is None:
        return remarks
    scale = measure.scale
    if scale is not None and measure.interval.within(measure.margin * scale):
        remarks.append(
            f"The bootstrap interval lies within the {limit}, but {len(measure.seeds)} pairs make it"
            f" too short to trust; Student's does not"
            f" ({interval_text(measure.student, scale).removeprefix('95 % CI ')})."
        )
    return [*remarks, *too_few(measure), settle(measure)]


def comparison_sentence(comparison: Comparison) -> str:
    """A cell's sentence."""
    return " ".join(filter(None, [final_sentence(comparison), speed_sentence(comparison)]))


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
    listed = "; ".join(_one_dropped(item) for item in comparison.dropped)
    text = f"{pairs} of {counted(comparison.planned, 'pair')}: {listed}."
    diverged = list(
        dict.fromkeys(d.cell for d in comparison.dropped if d.status is Status.DIVERGED)
    )
    if diverged and comparison.final is not None:
        text += f" Mean and interval leave out diverged trials, which flatters {names(diverged)}."
        if comparison.final.tested > pairs:
            text += (
                " The test does not: where only one of the two diverged, that counts against it"
                " like the largest difference seen."
            )
    return text


def _one_dropped(item: Dropped) -> str:
    return f"seed {item.seed} of `{item.cell}` {_OF_ONE.get(item.status, item.status)}"


def speed_sentence(comparison: Comparison) -> str:
    """The speed-up over all targets, never over the best one; empty where there is none."""
    speed = comparison.speed
    if speed is None or speed.overall is None or speed.mean is None:
        return ""
    easy, hard = number(speed.mean.targets[0]), number(speed.mean.targets[-1])
    ci = ""
    if speed.interval.low is not None and speed.interval.high is not None:
        ci = f", 95 % CI {times(speed.interval.low)} to {times(speed.interval.high)}"
    return (
        f"Speed-up of `{comparison.cell}` over all targets from {easy} to {hard}:"
        f" {times(speed.overall)} (by target {times(speed.slowest)} to {times(speed.fastest)}{ci})."
    )


def headline(verdicts: Verdicts) -> str:
    """The headline: every cell's word in one sentence, and what would settle the open ones."""
    metric = verdicts.quantity.title
    parts = [
        f"`{c.cell}` is {c.word} than `{c.baseline}` in {metric}: {effect(c.final)}"
        for c in verdicts.comparisons
        if c.word in {"BETTER", "WORSE"} and c.final is not None
    ]
    same = [c for c in verdicts.comparisons if c.word == "SAME"]
    if same:
        plural = "are the" if len(same) > 1 else "is the"
        parts.append(
            f"{names([c.cell for c in same])} {plural} SAME as `{verdicts.baseline}` in {metric}"
            f" within {percent(verdicts.margin, signed=False)}"
        )
    unsettled = [c for c in verdicts.comparisons if c.word == "INCONCLUSIVE"]
    if unsettled:
        parts.append(_open(unsettled, verdicts.baseline, metric))
    parts += _unfinished(verdicts)
    parts += [f"`{refusal.cell}` is not compared ({refusal.why})" for refusal in verdicts.refused]
    return "; ".join(parts) + "."


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


def _open(cells: list[Comparison], baseline: str, metric: str) -> str:
    """The INCONCLUSIVE part of the headline."""
    judged = [c.final for c in cells if c.final is not None]
    if not judged:
        listed = names([c.cell for c in cells])
        return f"INCONCLUSIVE: no seed finished both in {listed} and in `{baseline}`"
    counts = sorted({m.tested for m in judged})
    few = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    fewest = fewest_seeds(judged[0].comparisons)
    sizes = [f"{percent(m.relative)} for `{m.cell}`{_survivors(m)}" for m in judged]
    listed = " and ".join(filter(None, [", ".join(sizes[:-1]), sizes[-1]]))
    text = (
        f"INCONCLUSIVE with {few} paired seed{'' if few == '1' else 's'}:"
        f" {metric} against `{baseline}` is {listed}"
    )
    if counts[-1] < fewest:
        seeds = "one seed" if few == "1" else f"{few} seeds"
        text += f", but {seeds} cannot reach p < .05 ({fewest} are the fewest that can)"
    return f"{text}; {plans(judged)}"
