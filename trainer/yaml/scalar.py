"""What does an unquoted word of YAML mean? The YAML 1.2 core schema: `1e-3` is a number, `yes` is text."""

from __future__ import annotations

import re
from typing import Any, Final

MOST_DIGITS: Final = 600
"""A whole number with more digits is a pasted hash, not a setting. Python prints at least 640."""
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def scalar(text: str) -> Any:
    """The value of an unquoted scalar. ValueError, in plain words, for a number of endless digits."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if (digits := len(text.lstrip("+-"))) > MOST_DIGITS:
            raise ValueError(
                f"is a whole number of {digits:,} digits, at most {MOST_DIGITS} are read: "
                "write it shorter, or put it in quotes if it is text"
            )
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
