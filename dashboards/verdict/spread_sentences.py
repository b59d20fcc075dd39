"""How is it said where spread comes from? Components of variance to sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dashboards.text import counted, names, number, percent, signed
from dashboards.verdict.variance import Parts, Spread

_SOURCES = {"seed": "seeds", "draw": "draws", "interaction": "seed x draw"}


def share_text(share: float | None) -> str:
    """`26 %`: an estimate of few degrees of freedom has no decimals."""
    return "n/a" if share is None else f"{100 * share:.0f} %"


def shares_text(parts: Parts) -> tuple[str, str, str]:
    """What seeds, draws and their interaction have of the variance: `71 %`, `9 %`, `20 %`."""
    seed, draw, both = parts.shares or (0.0, 0.0, 0.0)
    return share_text(seed), share_text(draw), share_text(both)


def of_what(spread: Spread) -> str:
    """`under` against `uniform`, or the cell alone."""
    cell = names([spread.cell])
    return cell if spread.baseline is None else f"{cell} against {names([spread.baseline])}"


def deviation_text(spread: Spread, sd: float) -> str:
    """A standard deviation: `0.12` in the metric's own unit, `1.2 %` of a ratio."""
    return f"{number(100 * sd, 2)} %" if spread.ratio else number(sd, 2)


def mean_text(spread: Spread) -> str:
    """The mean: `4.07`, `+0.012` of differences, `+11.3 %` of ratios."""
    if spread.ratio:
        return percent(math.expm1(spread.mean))
    return number(spread.mean) if spread.baseline is None else signed(spread.mean)


def spread_sentence(spread: Spread) -> str:
    """Where the spread of one mean comes from, and what the test by seed does not see of it."""
    parts, what = spread.parts, of_what(spread)
    if parts is None:
        return f"{what}: {_alone(spread)}, so seeds and draws cannot be told apart."
    if parts.shares is None:
        over = f"{counted(parts.seeds, 'seed')} and {counted(parts.draws, 'draw')}"
        return f"{what}: equal over {over}."
    seed, draw, both = shares_text(parts)
    times = sum(parts.of_mean(1)) / sum(parts.of_mean())
    text = (
        f"{what}: {seed} of the variance of the mean is due to seeds, {draw} to draws, {both} to"
        f" seed x draw; with one draw it would be {number(times)} times as large."
    )
    if spread.baseline is not None:
        text += (
            f" A test by seed holds for these {parts.draws} draws: others would move the mean difference by a"
            f" standard deviation of {deviation_text(spread, parts.unseen)}"
            f" (below {deviation_text(spread, parts.unseen_below)} with 95 % confidence), beside its standard"
            f" error of {deviation_text(spread, parts.seen)}."
        )
    if parts.below_zero:
        sources = " and ".join(_SOURCES[name] for name in parts.below_zero)
        text += f" The estimate for {sources} is below 0 and counts as 0."
    return text


def sampling_sentences(spreads: Sequence[Spread]) -> list[str]:
    """Of the reported protocol: how much of the spread over seeds finite images are."""
    return [text for s in spreads if not s.protocol and (text := sampling_sentence(s))]


def sampling_sentence(spread: Spread) -> str:
    """How much of the spread over seeds finite images are, at most; empty where no standard errors are known.

    Noise that is larger than the spread it should be part of is common to all seeds: then how much of it cancels.
    """
    found = spread.sampling
    if found is None or found.share is None or found.share_range is None:
        return ""
    sd, error = (deviation_text(spread, value) for value in (found.sd, found.error))
    if found.error >= found.sd:
        return (
            f"{of_what(spread)}: sampling noise of finite images alone would be {error}, the spread between seeds is"
            f" {sd}: equal starting noises cancel at least {share_text(found.cancelled)} of its variance, and what"
            " is left cannot be told from the seeds'."
        )
    ends = " to ".join(share_text(end).removesuffix(" %") for end in found.share_range)
    return (
        f"{of_what(spread)}: at most {share_text(found.share)} of the variance between seeds (sd {sd}) is sampling"
        f" noise of finite images (standard error {error}); with {counted(found.seeds, 'seed')} that is {ends} % with"
        f" 95 % confidence. Seeds have the rest, sd {deviation_text(spread, found.seed_sd)}: more images would not"
        " reduce it."
    )


def _alone(spread: Spread) -> str:
    if spread.draws == 1 and len(spread.seeds) == 1:
        return "one seed and one draw"
    return "one draw" if spread.draws == 1 else "one seed"


def condition(spreads: Sequence[Spread]) -> str:
    """What every claim of a comparison depends on; empty where nothing is compared.

    With one draw for all, that it holds for one noise; with several, how much of what is left is the draws'.
    """
    compared = [s for s in spreads if s.baseline is not None and not s.protocol]
    if not compared:
        return ""
    if all(spread.draws == 1 for spread in compared):
        how = " (`evaluation.draws: 3` tells)" if compared[0].metric.startswith("eval/") else ""
        return (
            "Every cell was measured from one and the same generation noise: the claims hold for that noise,"
            f" and how much another would change them is not known{how}."
        )
    told = [(s, s.parts) for s in compared if s.parts is not None and s.parts.shares is not None]
    if not told:
        return ""
    cuts = ", ".join(f"of {names([s.cell])} by {share_text(parts.cut)}" for s, parts in told)
    left = ", ".join(shares_text(parts)[1] for _, parts in told)
    return (
        f"{told[0][0].draws} draws instead of one cut the variance of the mean difference {cuts}. The draws'"
        f" own part of what is left, which a test by seed does not see: {left}."
    )
