"""How is a verdict said? Numbers to short text, verdicts to sentences, for terminal and page."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from dashboards.paired import ALPHA, MOST_SEEDS, POWER, fewest_seeds, smallest_p

if TYPE_CHECKING:
    from dashboards.paired import Interval, MoreSeeds
    from dashboards.pairing import Dropped
    from dashboards.speed import SpeedUp
    from dashboards.verdict import Comparison, Measure, Verdicts

_FEWEST_FOR_NOISE = 3
"""Pairs; two tell their noise only within a factor of hundreds."""
_TITLES = {
    "fid": "FID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "loss": "training loss",
}


def title(metric: str) -> str:
    """A metric's name for people: `eval/fid` is FID, `rung/fid` is FID (cheap protocol)."""
    family, _, name = metric.rpartition("/")
    text = _TITLES.get(name, name)
    return f"{text} (cheap protocol)" if family == "rung" else text


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
    """`p = 0.25`, `p = 0.031`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {number(p, 2)}"


def hours(amount: float, unit: str) -> str:
    """A cost in the unit a person would choose: `4 CPU-minutes`, `2.5 GPU-hours`."""
    if amount * 60 < 1:
        return f"1 {unit}-minute"
    if amount < 1.5:
        minutes = round(amount * 60)
        return f"{minutes} {unit}-minute{'' if minutes == 1 else 's'}"
    return f"{number(amount, 2) if amount < 100 else f'{amount:.0f}'} {unit}-hours"


def duration(seconds: float | None) -> str:
    """`17 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def interval(found: Interval, scale: float | None) -> str:
    """`95 % CI -9.1 to +0.2 %`, relative where `scale` is known; says so when there is none."""
    level = f"{100 * found.level:.0f} %"
    if found.low is None or found.high is None:
        return f"no {level} CI"
    if scale is None:
        return f"{level} CI {number(found.low)} to {number(found.high)}"
    low, high = percent(found.low / scale), percent(found.high / scale)
    return f"{level} CI {low.removesuffix(' %')} to {high}"


def names(items: list[str]) -> str:
    """`a`, `b` and `c`, in backticks."""
    quoted = [f"`{item}`" for item in items]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def effect(found: Measure) -> str:
    """The difference with its interval and p: what both terminal and page show."""
    size = percent(found.relative) if found.relative is not None else number(found.mean)
    return f"{size}{_survivors(found)} ({interval(found.interval, found.scale)}, {_p(found)})"


def _survivors(found: Measure) -> str:
    """` on 7 surviving seeds`, where the test counts more than the number does."""
    n = len(found.seeds)
    return "" if n == found.tested else f" on {n} surviving seed{'' if n == 1 else 's'}"


def _p(found: Measure) -> str:
    if found.comparisons > 1:
        return f"Holm {p_value(found.p_holm)}"
    return p_value(found.p)


def share(n: int, planned: int) -> str:
    """`14`, or `7 of 14` where some are lacking."""
    return str(n) if n == planned else f"{n} of {planned}"


def _pairs(n: int) -> str:
    return f"{n} pair{'' if n == 1 else 's'}"


def measure(found: Measure) -> str:
    """A measure's sentence."""
    what = {
        "final": f"final {title(found.metric)}",
        "area": f"mean {title(found.metric)} over training",
        "target": f"kimg to {title(found.metric)} {number(found.target)}",
    }[found.name]
    values = " vs ".join(
        number(sum(v) / len(v)) for v in (found.cell_values, found.baseline_values)
    )
    parts = [
        f"{found.word}: {what} of `{found.cell}` against `{found.baseline}` is {values},"
        f" {effect(found)} over {_pairs(len(found.seeds))}."
    ]
    censored = found.censored_baseline + found.censored_cell
    if censored:
        parts.append(
            f"Censored: the target was never reached by `{found.baseline}` in"
            f" {found.censored_baseline} and by `{found.cell}` in {found.censored_cell} of"
            f" {_pairs(len(found.seeds))}; their time counts as the whole budget."
        )
    return " ".join([*parts, *_remarks(found)])


def _remarks(found: Measure) -> list[str]:
    """What the word hides: too-small differences, too-short intervals, too few seeds."""
    limit = f"{percent(found.margin, signed=False)} margin"
    remarks: list[str] = []
    if found.word == "SAME":
        remarks.append(f"The whole interval lies within the {limit}.")
        if found.p_holm < ALPHA:
            remarks.append("A difference is there, but too small to matter by that margin.")
    if found.word != "INCONCLUSIVE" or found.more is None:
        return remarks
    scale = found.scale
    if scale is not None and found.interval.within(found.margin * scale):
        remarks.append(
            f"The bootstrap interval lies within the {limit}, but {len(found.seeds)} pairs make it"
            f" too short to trust; Student's does not"
            f" ({interval(found.student, scale).removeprefix('95 % CI ')})."
        )
    return [*remarks, *_too_few(found), _settle(found)]


def _too_few(found: Measure) -> list[str]:
    n, fewest = found.tested, fewest_seeds(found.comparisons)
    if n >= fewest:
        return []
    if n == 1:
        return [f"One pair decides nothing; {fewest} are the fewest that can reach p < .05."]
    lowest = f"p = {number(smallest_p(n), 2)}"
    if found.comparisons > 1:
        least = number(smallest_p(n, found.comparisons), 2)
        lowest += f" ({least} after Holm over {found.comparisons} cells)"
    return [
        f"{_pairs(n)} screen, they cannot decide: a sign-flip test of {n} cannot go below {lowest};"
        f" {fewest} are the fewest that can reach p < .05."
    ]


def more(found: Measure) -> str | None:
    """`about 126 more seeds (55 to more than 1000) would settle it (about 3 CPU-minutes)`.

    With fewer than three pairs it says that no number is known; None when not even `MOST_SEEDS` do.
    """
    plan = found.more
    if plan is None:
        return None
    if found.tested < _FEWEST_FOR_NOISE:
        return "too few pairs to say how many more seeds would settle it"
    if plan.more is None:
        return None
    band = "" if plan.low == plan.high == plan.more else f" ({_band(plan)})"
    seeds = f"{'about ' if band else ''}{plan.more} more seed{'' if plan.more == 1 else 's'}{band}"
    cost = (
        "" if found.cost_hours is None else f" (about {hours(found.cost_hours, found.cost_unit)})"
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


def _settle(found: Measure) -> str:
    plan = found.more
    if plan is None:
        return ""
    text = more(found) or f"{_never(plan)}, if the true difference is the one seen"
    text = f"{text[0].upper()}{text[1:]}"
    if found.tested < _FEWEST_FOR_NOISE or plan.more is None:
        return f"{text}."
    chance = f"{100 * POWER:.0f} % probability"
    known = "" if plan.low == plan.high else "; the band is what the pairs know of the noise"
    return f"{text} with {chance} if the true difference is the one seen{known}."


def comparison(found: Comparison) -> str:
    """A cell's sentence."""
    return " ".join(filter(None, [judgement(found), speed(found.speed, found)]))


def judgement(found: Comparison) -> str:
    """The final metric's verdict on a cell, and which seeds it could not use."""
    if found.final is None:
        text = f"INCONCLUSIVE: no seed finished in both `{found.cell}` and `{found.baseline}`."
    else:
        text = measure(found.final)
    return " ".join(filter(None, [text, dropped(found)]))


def dropped(found: Comparison) -> str:
    """`2 of 3 pairs: seed 1 of under diverged.` and what that does to the comparison."""
    if not found.dropped:
        return ""
    pairs = 0 if found.final is None else len(found.final.seeds)
    said = "; ".join(_one_dropped(item) for item in found.dropped)
    text = f"{pairs} of {_pairs(found.planned)}: {said}."
    diverged = list(dict.fromkeys(d.cell for d in found.dropped if d.status == "diverged"))
    if diverged and found.final is not None:
        text += f" Mean and interval leave out diverged trials, which flatters {names(diverged)}."
        if found.final.tested > pairs:
            text += (
                " The test does not: where only one of the two diverged, that counts against it"
                " like the largest difference seen."
            )
    return text


def _one_dropped(item: Dropped) -> str:
    verb = {
        "diverged": "diverged",
        "failed": "failed",
        "running": "has not finished",
        "missing": "is missing",
    }.get(item.status, item.status)
    return f"seed {item.seed} of `{item.cell}` {verb}"


def speed(found: SpeedUp | None, where: Comparison) -> str:
    """The speed-up over all targets, never over the best one."""
    if found is None or found.overall is None or found.mean is None:
        return ""
    easy, hard = number(found.mean.targets[0]), number(found.mean.targets[-1])
    ci = ""
    if found.interval.low is not None and found.interval.high is not None:
        ci = f", 95 % CI {times(found.interval.low)} to {times(found.interval.high)}"
    return (
        f"Speed-up of `{where.cell}` over all targets from {easy} to {hard}: {times(found.overall)}"
        f" (by target {times(found.slowest)} to {times(found.fastest)}{ci})."
    )


def times(ratio: float | None) -> str:
    """A ratio: `1.31x`."""
    return "n/a" if ratio is None else f"{ratio:.2f}x"


def overall(found: Verdicts) -> str:
    """The headline: every cell's word in one sentence, and what would settle the open ones."""
    metric = title(found.metric)
    parts = [
        f"`{c.cell}` is {c.word} than `{c.baseline}` in {metric}: {effect(c.final)}"
        for c in found.comparisons
        if c.word in {"BETTER", "WORSE"} and c.final is not None
    ]
    same = [c for c in found.comparisons if c.word == "SAME"]
    if same:
        plural = "are the" if len(same) > 1 else "is the"
        parts.append(
            f"{names([c.cell for c in same])} {plural} SAME as `{found.baseline}` in {metric}"
            f" within {percent(found.margin, signed=False)}"
        )
    unsettled = [c for c in found.comparisons if c.word == "INCONCLUSIVE"]
    if unsettled:
        parts.append(_open(unsettled, found.baseline, metric))
    parts += _unfinished(found)
    parts += [f"`{refusal.cell}` is not compared ({refusal.why})" for refusal in found.refused]
    return "; ".join(parts) + "."


def _unfinished(found: Verdicts) -> list[str]:
    """`b` diverged on 7 of 14 seeds: for the baseline and every cell which lacks some."""
    verbs = {"diverged": "diverged on", "failed": "failed on", "missing": "lacks"}
    verbs["running"] = "has not finished"
    lacking = {
        (item.cell, item.status, item.seed): c.planned
        for c in found.comparisons
        for item in c.dropped
    }
    counts = Counter((cell, status) for cell, status, _ in lacking)
    planned = max(lacking.values(), default=0)
    return [
        f"`{cell}` {verbs.get(status, status)} {n} of {planned} seed{'' if planned == 1 else 's'}"
        for (cell, status), n in counts.items()
    ]


def _open(cells: list[Comparison], baseline: str, metric: str) -> str:
    """The INCONCLUSIVE part of the headline."""
    judged = [c.final for c in cells if c.final is not None]
    if not judged:
        told = names([c.cell for c in cells])
        return f"INCONCLUSIVE: no seed finished both in {told} and in `{baseline}`"
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
    return f"{text}; {_plans(judged)}"


def _plans(judged: list[Measure]) -> str:
    """What would settle the open cells: one count if they agree, each its own if few."""
    said = {m.cell: more(m) or _never(m.more) for m in judged if m.more is not None}
    if len(set(said.values())) == 1:
        return said[judged[0].cell]
    if len(said) <= 3:
        return ", ".join(text.replace("settle it", f"settle `{c}`") for c, text in said.items())
    if any(m.tested < _FEWEST_FOR_NOISE for m in judged):
        return "too few pairs to say how many more seeds would settle all of it"
    known = [m for m in judged if more(m) is not None]
    if len(known) < len(judged):
        return f"not even {MOST_SEEDS} seeds would settle all of it"
    hardest = max(known, key=lambda m: (m.more.more if m.more is not None else None) or 0)
    return (more(hardest) or "").replace("settle it", "settle all of it")
