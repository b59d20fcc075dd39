"""How do programs read a verdict? As plain JSON data, with the sentences in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.verdict.evidence import Row
from dashboards.verdict.outlook import looks
from dashboards.verdict.sentences import (
    comparison_sentence,
    headline,
    measure_sentence,
    row_sentence,
)
from dashboards.verdict.spread_sentences import sampling_sentence, spread_sentence
from dashboards.verdict.values import Verdicts
from dashboards.verdict.variance import SOURCES, Spread


def to_dict(verdicts: Verdicts) -> dict[str, Any]:
    """Everything, with the sentences, as JSON has it (infinities and NaN become null)."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(verdicts))
    plain["sentence"], plain["looks"] = headline(verdicts), looks(verdicts.guarantee)
    for data, comparison in zip(plain["comparisons"], verdicts.comparisons, strict=True):
        data["sentence"] = comparison_sentence(comparison)
        for measure in comparison.measures():
            data[measure.name]["sentence"] = measure_sentence(measure)
    plain["unlike"] = [
        {"row": _named(u.row), "against": _named(u.against), "why": u.why} for u in verdicts.unlike
    ]
    for data, compared in zip(plain["rows"], verdicts.rows, strict=True):
        data |= {"row": _named(compared.row), "against": _named(compared.against)}
        data |= {"same_training": compared.same_training, "sentence": row_sentence(compared)}
    return plain


def _named(row: Row) -> dict[str, str]:
    return {"name": row.name, **row._asdict()}


def spreads_to_list(spreads: Sequence[Spread]) -> list[dict[str, Any]]:
    """Where the spread comes from: components, what follows from them, and the sentences."""
    return [_plain(_of_spread(spread)) for spread in spreads]


def _of_spread(spread: Spread) -> dict[str, Any]:
    data = dataclasses.asdict(spread) | {"sentence": spread_sentence(spread)}
    if (images := spread.sampling) is not None:
        data["sampling"] |= {
            "share": images.share,
            "share_range": images.share_range,
            "seed_sd": images.seed_sd,
            "cancelled": images.cancelled,
            "sentence": sampling_sentence(spread),
        }
    if (parts := spread.parts) is not None:
        data["parts"] |= {
            "shares": parts.shares and dict(zip(SOURCES, parts.shares, strict=True)),
            "cut": parts.cut,
            "cut_by_seed": parts.cut_by_seed,
            "seen": parts.seen,
            "unseen": parts.unseen,
            "unseen_below": parts.unseen_below,
            "below_zero": parts.below_zero,
        }
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
