"""What was found in a set when all of it was read: which rows can be used, their content, what there is to say."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.data.said import Looks
from trainer.errors import DataError


@dataclass(frozen=True)
class Summary:
    """What is said of a set that was read."""

    total: int
    """Rows, usable or not."""
    looks: Looks
    """Of the rows that can be used."""
    lost: int
    """Rows that cannot be used."""
    named: tuple[tuple[str, str], ...]
    """The first of them, each with the reason."""
    label_names: tuple[str, ...] | None
    tag_names: tuple[str, ...] | None

    def lost_rows(self) -> str:
        """For a message: the first, with their reasons."""
        more = f" and {self.lost - len(self.named):,} more" if self.lost > len(self.named) else ""
        return ", ".join(f"{name} ({reason})" for name, reason in self.named) + more


@dataclass(frozen=True)
class Found:
    """The usable rows of a set: which, and their content."""

    rows: np.ndarray
    """int64 [N]."""
    digests: np.ndarray
    """uint8 [N, 32]: the name of each content (`trainer.data.picture.Opened.name`)."""
    labels: np.ndarray | None
    """int64 [N]."""
    tags: np.ndarray | None
    """bool [N, K]."""
    summary: Summary

    def to_bytes(self) -> bytes:
        """A .npz file."""
        file, text = io.BytesIO(), json.dumps(asdict(self.summary)).encode()
        given = {"labels": self.labels, "tags": self.tags}
        arrays: dict[str, Any] = {name: array for name, array in given.items() if array is not None}
        np.savez(
            file, rows=self.rows, digests=self.digests, summary=np.frombuffer(text, np.uint8), **arrays
        )  # fmt: skip
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Found:
        """Inverse of `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        said = json.loads(arrays["summary"].tobytes())
        said["named"] = tuple((name, reason) for name, reason in said["named"])
        looks = said["looks"]
        for part, keys in (
            (looks, ("smallest", "largest", "least")),
            (said, ("label_names", "tag_names")),
        ):
            for key in keys:
                part[key] = None if part[key] is None else tuple(part[key])
        said["looks"] = Looks(**looks)
        found = (arrays["rows"], arrays["digests"], arrays.get("labels"), arrays.get("tags"))
        return cls(*found, Summary(**said))


def usable(found: Found, place: str, remedy: str, *, skip: bool = False) -> Found:
    """The same, or DataError where rows are lost (unless they are to be skipped), or all of them."""
    summary = found.summary
    if summary.lost and not skip:
        raise DataError(
            f"{place}: {summary.lost:,} of {summary.total:,} pictures cannot be used: {summary.lost_rows()}: {remedy}"
        )
    if not len(found.rows):
        why = f" ({summary.lost_rows()})" if summary.lost else ""
        raise DataError(f"{place}: there is no picture that can be used{why}: {remedy}")
    return found
