"""Under which further protocols are a cell's finished weights measured? Said by its trial, in plain values."""

from __future__ import annotations

from dashboards.verdict.evidence import Further
from trainer.evaluation.protocol import Evaluation

_DECIDING = "full"
"""What the reported protocol is called where another one decides."""


def further(evaluation: Evaluation, metric: str) -> tuple[Further, ...]:
    """Those of a deciding metric: `full` and `also`, less the one it is of itself.

    A protocol that generates as many images as the deciding one differs from it in the way of generating alone,
    since both share metric, reference, feature space and noises: they may be compared on one training.
    """
    stem, _, deciding = metric.partition(".")
    name = stem.removeprefix("eval/")
    if not stem.startswith("eval/") or name not in {one.name for one in evaluation.comparisons}:
        return ()
    ways = {"": evaluation.full} | {one.name: one.of(evaluation.full) for one in evaluation.also}
    images = ways[deciding].images if deciding in ways else None
    return tuple(
        Further(
            way or _DECIDING,
            f"{stem}.{way}" if way else stem,
            "" if own.images == images else f"{own.images:,} images, not {images:,}",
        )
        for way, own in ways.items()
        if way != deciding and images is not None
    )
