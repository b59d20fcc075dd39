"""What does a protocol id stand for? How a number was measured, in words, from the spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from dashboards.sweep import Sweep
from trainer.evaluation.protocol import Evaluation

_REAL = {"train": "the training data", "test": "the test split, which training does not see"}


@dataclass(frozen=True)
class Explanation:
    """What some protocol ids have in common: how the images were made, and in which space compared."""

    identifiers: dict[str, str]
    """Id to the metrics measured under it, such as `eval/fid`."""
    words: str


def explanations(sweep: Sweep) -> list[Explanation]:
    """Every protocol id in the sweep's trials, those of reported numbers first."""
    measured: dict[str, tuple[str, list[str]]] = {}
    for trial in sweep.evidence.trials:
        for metric, identifiers in trial.protocols.items():
            for identifier in identifiers:
                _, metrics = measured.setdefault(identifier, (trial.cell, []))
                if metric not in metrics:
                    metrics.append(metric)
    shared: dict[str, dict[str, str]] = {}
    for identifier, (cell, metrics) in sorted(measured.items(), key=_reported_first):
        words = _words(sweep.specs.get(cell, {}), metrics[0], sweep.spaces)
        shared.setdefault(words, {})[identifier] = ", ".join(metrics)
    return [Explanation(identifiers, words) for words, identifiers in shared.items()]


def _reported_first(item: tuple[str, tuple[str, list[str]]]) -> bool:
    return item[1][1][0].startswith("rung/")


def _words(spec: Mapping[str, Any], metric: str, spaces: Mapping[str, str]) -> str:
    family, _, name = metric.partition("/")
    try:
        evaluation = Evaluation.saved(spec.get("evaluation") or {})
    except ValidationError:
        return "The spec of these trials is not at hand."
    name, _, also = name.partition(".")
    generation = evaluation.rung if family == "rung" else evaluation.full
    more = next((one for one in evaluation.also if one.name == also), None)
    generation = generation if more is None else more.of(evaluation.full)
    if generation is None:
        return "The spec of these trials is not at hand."
    asked = next((one for one in evaluation.questions if one.name == name), None)
    if asked is not None:
        return (
            f"{asked.title} of {asked.images or generation.images:,} real images, evenly spaced over"
            f" {_REAL[evaluation.split_of(asked)]}, under the averaged (EMA) weights: {asked.label()}. Every trial"
            " is asked about the same ones with the same noise."
        )
    compared = next((one for one in evaluation.comparisons if one.name == name), None)
    part: Literal["full", "rung"] = "rung" if family == "rung" else "full"
    features = evaluation.features if compared is None else evaluation.space_of(compared, part)
    grid = "each trial's own schedule" if generation.grid is None else generation.grid.kind
    role = (
        "The cheap protocol of the convergence curve"
        if family == "rung"
        else f"Also measured on the finished weights, as `{also}`"
        if also
        else "The reported protocol"
        if evaluation.rung is not None
        else "The only protocol, of curve and final number"
    )
    split = None if compared is None else compared.split
    published = evaluation.is_published and split is None
    real = split or ("test" if evaluation.reference == "test" else "train")
    against = f"the statistics in {evaluation.reference}" if published else _REAL[real]
    known = f"; {spaces[features.kind]}" if features.kind in spaces else ""
    return (
        f"{role}: {_sets(evaluation, family)}{generation.images:,} images from the averaged (EMA) weights, solver"
        f" {generation.solver.kind} in {generation.steps} steps on the grid of {grid}, compared with"
        f" {against} in the feature space of {features.called()}{known}. Every trial starts from the"
        f" same noise."
    )


def _sets(evaluation: Evaluation, family: str) -> str:
    """`the mean over 3 sets of `, where there are several."""
    count = len(evaluation.noises("rung" if family == "rung" else "full"))
    return "" if count == 1 else f"the mean over {count} sets of "
