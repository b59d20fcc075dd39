"""What is a metric called, and which direction is good? The trainer's answers, in plain values.

A distance goes by its plain name in the feature space of papers alone; elsewhere the name says the space, `FID
(classifier)`. A metric's name, `eval/fid`, does not tell the space that all metrics share, so whoever has the specs
gives its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dashboards.verdict.evidence import Quantity
from trainer.evaluation.features import SPACES
from trainer.evaluation.metric import KINDS, Metric, describe


def quantity(metric: str, space: str | None = None) -> Quantity | None:
    """`eval/fid` is FID, `rung/kid-pixels` is KID (pixels, cheap protocol); None where nothing is compared."""
    family, _, name = metric.rpartition("/")
    described = describe(metric)
    if described is None or family not in ("eval", "rung"):
        return None
    name, _, also = name.partition(".")
    compares = issubclass(described, Metric)
    notes = [_space_note(name.partition("-")[2] or space) if compares else ""]
    notes += [also, "cheap protocol" if family == "rung" else ""]
    said = ", ".join(filter(None, notes))
    title = f"{described.title} ({said})" if said else described.title
    return Quantity(title, described.lower_is_better, described.unit, described.ratio)


def _space_note(space: str | None) -> str:
    if space is None:
        return ""
    known = SPACES.get(space)
    return "" if known is not None and known.is_papers else space


def quantities(metrics: Iterable[str], space: str | None = None) -> dict[str, Quantity]:
    """All that can be measured, in the shared feature space, and those of `metrics` that can be compared."""
    names = [f"{family}/{kind}" for family in ("eval", "rung") for kind in KINDS]
    every = [*names, *metrics]
    return {name: known for name in every if (known := quantity(name, space)) is not None}


def shared_space(specs: Iterable[Mapping[str, Any]]) -> str | None:
    """Kind of the feature space that trials, as JSON, measure in; None where it is unknown, or not one."""
    kinds = {(spec.get("evaluation") or {}).get("features", {}).get("kind") for spec in specs}
    return kinds.pop() if len(kinds) == 1 else None


def title(metric: str, space: str | None = None) -> str:
    """A metric's name for people, in a sentence."""
    if (known := quantity(metric, space)) is not None:
        return known.title
    return "training loss" if metric == "train/loss" else metric.rpartition("/")[2]


def heading(metric: str, space: str | None = None) -> str:
    """The same where its numbers stand below or beside it: with the unit, if it has one."""
    known = quantity(metric, space)
    return known.heading if known is not None else title(metric)
