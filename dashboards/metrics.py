"""What is a metric called, and which direction is good? The trainer's answers, in plain values.

A distance goes by its plain name in the feature space of papers alone; elsewhere the name says the space, `FID
(classifier)`. A metric's name, `eval/fid`, does not tell the space that all metrics share, so whoever has the specs
gives its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from dashboards.verdict.evidence import Quantity
from trainer.data import Split
from trainer.evaluation.features import SPACES
from trainer.evaluation.metric import KINDS, Metric, describe

OF = ", "


def quantity(metric: str, space: str | None = None) -> Quantity | None:
    """`eval/fid` is FID, `rung/kid-pixels` is KID (pixels, cheap protocol); None where nothing is compared."""
    family, _, name = metric.rpartition("/")
    described = describe(metric)
    if described is None or family not in ("eval", "rung"):
        return None
    name, _, also = name.partition(".")
    name, _, average = name.partition("-ema-")
    name, split = _without_split(name)
    common, _, usual = (space or "").partition(OF)
    own = name.partition("-")[2]
    notes = [_space_note(own or common) if issubclass(described, Metric) else ""]
    notes += [f"{split} split" if split else usual, f"ema-{average}" if average else "", also]
    notes += ["cheap protocol" if family == "rung" else ""]
    said = ", ".join(filter(None, notes))
    title = f"{described.title} ({said})" if said else described.title
    return Quantity(title, described.lower_is_better, described.unit, described.ratio)


def _without_split(name: str) -> tuple[str, str]:
    """`fid-inception-test` is (`fid-inception`, `test`)."""
    rest, _, last = name.rpartition("-")
    return (rest, last) if last in get_args(Split) else (name, "")


def _space_note(space: str) -> str:
    known = SPACES.get(space)
    return "" if known is not None and known.is_papers else space


def quantities(metrics: Iterable[str], space: str | None = None) -> dict[str, Quantity]:
    """All that can be measured, in the shared feature space, and those of `metrics` that can be compared."""
    names = [f"{family}/{kind}" for family in ("eval", "rung") for kind in KINDS]
    every = [*names, *metrics]
    return {name: known for name in every if (known := quantity(name, space)) is not None}


def shared_space(specs: Iterable[Mapping[str, Any]]) -> str | None:
    """The feature space that trials, as JSON, measure in (`space_of`); None where it is unknown, or not one."""
    kinds = set()
    for spec in specs:
        evaluation = spec.get("evaluation") or {}
        kind = evaluation.get("features", {}).get("kind")
        kinds.add(space_of(kind, evaluation.get("reference", "train")) if kind else None)
    return kinds.pop() if len(kinds) == 1 else None


def space_of(kind: str, reference: str) -> str:
    """What numbers without a space of their own are of: `classifier`, or `classifier, test split`."""
    return f"{kind}{OF}test split" if reference == "test" else kind


def title(metric: str, space: str | None = None) -> str:
    """A metric's name for people, in a sentence."""
    if (known := quantity(metric, space)) is not None:
        return known.title
    return "training loss" if metric == "train/loss" else metric.rpartition("/")[2]


def heading(metric: str, space: str | None = None) -> str:
    """The same where its numbers stand below or beside it: with the unit, if it has one."""
    known = quantity(metric, space)
    return known.heading if known is not None else title(metric)
