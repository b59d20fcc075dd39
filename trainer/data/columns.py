"""Which column of a table holds the pictures, which the labels, and what do the labels say?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.data.listing import printable
from trainer.errors import DataError

UNLABELLED = -1
_LISTED = 20
_CUSTOMARY = ("label", "labels", "class")
"""Names under which labels are found that are not of a type for labels."""


def image_column(features: Any, asked: str | None) -> str:
    """The column that is asked for, or the one whose type is that of images. Raises DataError."""
    if asked is not None:
        _known(features, asked, "image")
        if not _holds_files(features[asked]) and not _is_image(features[asked]):
            raise DataError(
                f"data.image_column: the column {asked} holds {described(features[asked])}, not images: "
                f"{_listed(features)}"
            )
        return asked
    images = [name for name, feature in features.items() if _is_image(feature)]
    images = images or [name for name, feature in features.items() if _holds_files(feature)]
    if not images:
        raise DataError(f"data.image_column: there is no column of images: {_listed(features)}")
    if len(images) > 1 and "image" not in images:
        raise DataError(
            f"data.image_column: {', '.join(images)} all hold images: write the name of one"
        )
    return images[0] if len(images) == 1 else "image"


def label_column(features: Any, asked: str | bool) -> str | None:
    """The column that is asked for; True: the one of type ClassLabel, or one that is called label. Raises DataError."""
    if isinstance(asked, str):
        _known(features, asked, "label")
        return asked
    if not asked:
        return None
    found = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    found = found or [name for name in _CUSTOMARY if name in features][:1]
    if len(found) > 1 and "label" not in found:
        raise DataError(
            f"data.label_column: {', '.join(found)} are all labels: write the name of one, or data.label_column: false"
        )
    return None if not found else found[0] if len(found) == 1 else "label"


def numbered(column: str, feature: Any, values: Sequence[Any]) -> tuple[np.ndarray, tuple[str, ...]]:  # fmt: skip
    """int64 [N], UNLABELLED where there is no value, and the names. Raises DataError for what are no classes."""
    if type(feature).__name__ == "ClassLabel":
        numbers = np.array([UNLABELLED if v is None else v for v in values], np.int64)
        return numbers, tuple(feature.names)
    present = {_class_of(column, feature, value) for value in values} - {None}
    order = {value: i for i, value in enumerate(sorted(present))}
    numbers = np.array(
        [order.get(_class_of(column, feature, v), UNLABELLED) for v in values], np.int64
    )
    return numbers, tuple(str(value) for value in order)


def _class_of(column: str, feature: Any, value: Any) -> Any:
    """Text or a whole number; None where there is nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str | int):
        return str(value) if isinstance(value, bool) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise DataError(
        f"data.label_column: the column {column} holds {described(feature)} such as {printable(repr(value)[:40])}, "
        "which are no classes: name a column of texts or whole numbers, or set data.label_column: false"
    )


def described(feature: Any) -> str:
    """A type for people."""
    kind = type(feature).__name__
    if kind == "Value":
        return str(feature.dtype)
    return {"dict": "a structure", "Image": "images", "ClassLabel": "classes"}.get(kind, kind)


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _holds_files(feature: Any) -> bool:
    """Image files as bytes, bare or in the structure that the library writes."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def _known(features: Any, asked: str, field: str) -> None:
    if asked not in features:
        raise DataError(f"data.{field}_column: there is no column {asked}: {_listed(features)}")


def _listed(features: Any) -> str:
    every = [f"{printable(name)} ({described(feature)})" for name, feature in features.items()]
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return f"the columns are {', '.join(every[:_LISTED])}{more}"
