"""What is a metric called, and which direction is good? The trainer's answers, in plain values."""

from __future__ import annotations

from collections.abc import Iterable

from dashboards.verdict.evidence import Quantity
from trainer.evaluation.metric import KINDS, describe


def quantity(metric: str) -> Quantity | None:
    """`eval/fid` is FID, `rung/kid-pixels` is KID-pixels (cheap protocol); None where nothing is compared."""
    family, _, name = metric.rpartition("/")
    described = describe(metric)
    if described is None or family not in ("eval", "rung"):
        return None
    _, dash, space = name.partition("-")
    cheap = " (cheap protocol)" if family == "rung" else ""
    title = f"{described.title}{dash}{space}{cheap}"
    return Quantity(title, described.lower_is_better, described.unit, described.ratio)


def quantities(metrics: Iterable[str]) -> dict[str, Quantity]:
    """All that can be measured, in the shared feature space, and those of `metrics` that can be compared."""
    names = [f"{family}/{kind}" for family in ("eval", "rung") for kind in KINDS]
    return {name: known for name in [*names, *metrics] if (known := quantity(name)) is not None}


def title(metric: str) -> str:
    """A metric's name for people, in a sentence."""
    if (known := quantity(metric)) is not None:
        return known.title
    return "training loss" if metric == "train/loss" else metric.rpartition("/")[2]


def heading(metric: str) -> str:
    """The same where its numbers stand below or beside it: with the unit, if it has one."""
    known = quantity(metric)
    return known.heading if known is not None else title(metric)
