"""Where in a document is a value? Paths of keys and list positions, and how a person writes them."""

from __future__ import annotations

Keys = tuple[str | int, ...]
"""Mapping keys and list positions from the top."""

_LONGEST_INDEX = 9


def dotted(keys: Keys) -> str:
    """`("axes", "optimizer.lr", 1)` as `axes.optimizer.lr[1]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def split(path: str) -> Keys:
    """`optimizer.betas.0` as keys; digits address a list."""
    return tuple(int(part) if _is_index(part) else part for part in path.split("."))


def covers(keys: Keys, other: Keys) -> bool:
    """Whether setting `keys` replaces what was set at `other`."""
    return other[: len(keys)] == keys


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= _LONGEST_INDEX
