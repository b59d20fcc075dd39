"""Which distances between generated and real images are there? Specs with a number; float64 throughout."""

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from trainer.errors import suggestion
from trainer.evaluation.metric.base import (
    AnyMeasure,
    Metric,
    ModelMetric,
    Moments,
    Statistics,
)
from trainer.evaluation.metric.classes import ClassMetrics
from trainer.evaluation.metric.frechet import MomentMetrics, Reference, frechet_distance
from trainer.evaluation.metric.kernel import KernelMetrics, kernel_distance
from trainer.evaluation.metric.likelihood import LikelihoodMetrics
from trainer.evaluation.metric.manifold import Manifold, ManifoldMetrics, precision, recall
from trainer.evaluation.metric.sliced import SlicedMetrics

_Member = Annotated[
    MomentMetrics
    | KernelMetrics
    | ManifoldMetrics
    | SlicedMetrics
    | ClassMetrics
    | LikelihoodMetrics,
    Field(discriminator="kind"),
]
"""The members of the family."""
KINDS: dict[str, type[AnyMeasure]] = {
    str(member.model_fields["kind"].default): member for member in get_args(get_args(_Member)[0])
}
"""The same by kind."""


def _written_out(value: Any) -> Any:
    """`fid` is short for `{kind: fid}`."""
    if not isinstance(value, str):
        return value
    if value not in KINDS:
        raise ValueError(f"unknown metric `{value}`{suggestion(value, KINDS)}")
    return {"kind": value}


AnyMetric = Annotated[_Member, BeforeValidator(_written_out, json_schema_input_type=_Member | str)]
"""A metric, or the kind alone."""


def describe(name: str) -> type[AnyMeasure] | None:
    """The member behind a number's name, `eval/fid`, `eval/fid.NAME`, `rung/kid-inception` or `fid`; else None."""
    protocol, _, named = name.rpartition("/")
    short, _, _ = named.partition(".")
    return KINDS.get(short.partition("-")[0]) if protocol in ("", "eval", "rung") else None


__all__ = [
    "KINDS",
    "AnyMeasure",
    "AnyMetric",
    "Manifold",
    "Metric",
    "ModelMetric",
    "Moments",
    "Reference",
    "Statistics",
    "describe",
    "frechet_distance",
    "kernel_distance",
    "precision",
    "recall",
]
