"""What does a YAML file say, and on which line does it say it? The one reader of every YAML of the product.

Every key and every value is remembered with its line, so that any later complaint can point at it.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import InputError, Problem
from trainer.yaml.builder import build
from trainer.yaml.files import display, is_handed_over, why_unreadable
from trainer.yaml.keys import Keys, dotted
from trainer.yaml.limits import LARGEST, TOO_LARGE

_OTHER_ENCODINGS = (
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_BE,
)  # that of UTF-32 LE begins as the first


@dataclass(frozen=True)
class Source:
    """A parsed document: its values, and the line of each key and value."""

    file: str
    data: Any
    text: str = ""
    key_lines: Mapping[Keys, int] = field(default_factory=dict)
    value_lines: Mapping[Keys, int] = field(default_factory=dict)

    def line(self, keys: Keys, of_key: bool = False) -> int | None:
        """Line of the value at `keys` (or of its key); of the nearest thing around it if it is not there."""
        for length in range(len(keys), -1, -1):
            near = keys[:length]
            if near in self.value_lines:
                at_key = of_key or length < len(keys) or self._is_block(near)
                return (
                    self.key_lines.get(near, self.value_lines[near])
                    if at_key
                    else self.value_lines[near]
                )
        return None

    def problem(self, keys: Keys, message: str, of_key: bool = False) -> Problem:
        """A complaint about the value at `keys`."""
        return Problem(self.file, self.line(keys, of_key), dotted(keys), message)

    def _is_block(self, keys: Keys) -> bool:
        """Whether a mapping or list starts below its key: then the key is where a reader looks."""
        key_line = self.key_lines.get(keys)
        return key_line is not None and self.value_lines[keys] > key_line


def read(path: Path | str) -> Source:
    """The file's one document. InputError, in plain words, when it cannot be read or is no YAML."""
    path = Path(path)
    name = display(path)
    refusal = None if is_handed_over(path) else why_unreadable(path)
    if refusal is None:
        try:
            with open(path, "rb") as file:
                content = file.read(LARGEST + 1)
            if content.startswith(_OTHER_ENCODINGS):
                refusal = "is text in UTF-16 or UTF-32: save it in UTF-8"
            elif _is_wide(content):
                refusal = "looks like text in UTF-16 or UTF-32: save it in UTF-8"
            elif len(content) <= LARGEST:
                return parse(content.decode("utf-8-sig"), name)
            else:
                refusal = TOO_LARGE
        except UnicodeDecodeError:
            refusal = "is not a text file in UTF-8"
        except OSError as error:
            refusal = f"cannot be read: {error.strerror}"
    raise InputError([Problem(name, None, "", refusal)])


def _is_wide(content: bytes) -> bool:
    """Whether every other byte of the beginning is zero, as in UTF-16 and UTF-32 without a mark."""
    even, odd = content[:16:2], content[1:16:2]
    return len(odd) > 1 and any(even) != any(odd)


def parse(text: str, file: str) -> Source:
    """The document in `text`; `file` is what messages call it. InputError when it is no YAML."""
    built = build(text, file)
    return Source(file, built.data, text, built.key_lines, built.value_lines)
