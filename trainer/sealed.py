"""Is a line of JSON still what was written? A flipped bit may make another digit of one, and nothing else tells."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

SEAL = "crc32"
"""Key of the last entry: CRC-32 of the object as `json.dumps` writes it without this entry, in 8 hex digits."""


def seal(data: Mapping[str, Any]) -> str:
    """JSON of an object, with its checksum as last entry."""
    return json.dumps({**data, SEAL: _checksum(data)})


def unseal(text: str) -> dict[str, Any]:
    """The object, without its checksum; ValueError where that does not fit. One without a checksum is believed."""
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    expected = data.pop(SEAL, None)
    if expected is None or _as_written(text, expected) or expected == _checksum(data):
        return data
    raise ValueError("its checksum does not fit")


def _as_written(text: str, expected: Any) -> bool:
    """Whether the text itself is what was sealed, on one line: then it need not be written anew to know."""
    body, _, end = text.rstrip().rpartition(", ")
    return (
        end == f'"{SEAL}": "{expected}"}}' and f"{zlib.crc32(f'{body}}}'.encode()):08x}" == expected
    )


def _checksum(data: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(dict(data)).encode()):08x}"
