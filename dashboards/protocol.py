"""What does a protocol id stand for? How a number was measured, in words, from the spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboards.runs import Sweep

_FEATURES = {
    "classifier": "the last hidden layer of a small classifier trained on the data's own labels"
    " (it ranks trials on this data set; it is not the Inception FID of papers)",
    "pixels": "the pixels themselves",
    "inception": "Inception-v3 pool features",
}


@dataclass(frozen=True)
class Explanation:
    """One protocol id and its meaning."""

    identifier: str
    metrics: str
    """The metrics measured under it, such as `eval/fid`."""
    words: str


def explanations(sweep: Sweep) -> list[Explanation]:
    """Every protocol id in the sweep's trials, the reported one first."""
    found: dict[str, Explanation] = {}
    for column, family, part in (
        ("protocol", "eval", "full"),
        ("protocol_rung", "rung", "rung"),
    ):
        rows = sweep.trials[sweep.trials[column].map(lambda i: isinstance(i, str) and i != "")]
        for identifier, group in rows.groupby(column):
            evaluation = sweep.specs.get(str(group["cell"].iloc[0]), {}).get("evaluation", {})
            names = ", ".join(f"{family}/{name}" for name in evaluation.get("metrics", ()))
            words = _words(evaluation, evaluation.get(part), curve=part == "rung")
            found.setdefault(
                str(identifier), Explanation(str(identifier), names or f"{family}/...", words)
            )
    return list(found.values())


def _words(evaluation: Mapping[str, Any], generation: Any, *, curve: bool) -> str:
    if not isinstance(generation, Mapping):
        return "The spec of these trials is not at hand."
    solver, steps = _kind(generation.get("solver")), generation.get("steps")
    grid = _kind(generation.get("grid")) or "each trial's own schedule"
    features = _kind(evaluation.get("features"))
    role = (
        "The cheap protocol of the convergence curve"
        if curve
        else "The reported protocol"
        if evaluation.get("rung") is not None
        else "The only protocol, of curve and final number"
    )
    return (
        f"{role}: {generation.get('images', 0):,} images from the averaged (EMA) weights, solver"
        f" {solver} in {steps} steps on the grid of {grid}, compared with the training data in the"
        f" feature space of {_FEATURES.get(features, features)}. Every trial starts from the same"
        f" noise."
    )


def _kind(spec: Any) -> str:
    return str(spec.get("kind", "")) if isinstance(spec, Mapping) else ""
