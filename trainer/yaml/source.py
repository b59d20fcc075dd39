"""What does a YAML file say, and on which line does it say it? YAML 1.2 core values, nothing executable.

Every key and every value is remembered with its line, so that any later complaint can point at it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from trainer.errors import InputError, Problem, closest

Keys = tuple[str | int, ...]
"""Where a value is: mapping keys and list positions from the top."""

_LARGEST = 100_000
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
_PLAIN_WORDS: Final = (
    ("mapping values are not allowed", "a second `:` on one line, or a line indented too far"),
    ("'\\t' that cannot start any token", "a tab: YAML is indented with spaces"),
    ("could not find expected ':'", "a line that is no `key: value`"),
    ("expected <block end>", "this line is indented differently from the lines it belongs with"),
    ("expected ',' or ']'", "a list opened with `[` is not closed"),
    ("expected ',' or '}'", "a mapping opened with `{` is not closed"),
    ("unexpected end of stream", "a quoted text is not closed"),
    ("found undefined alias", "`*name` refers to an anchor `&name` that is not defined above it"),
    ("that cannot start any token", "a value cannot start with this character: put it in quotes"),
)


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


def dotted(keys: Keys) -> str:
    """`("axes", "optimizer.lr", 1)` as `axes.optimizer.lr[1]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def read(path: Path | str) -> Source:
    """The file's one document. InputError, in plain words, when it cannot be read or is no YAML."""
    name = display(Path(path))
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError([Problem(name, None, "", missing_file(Path(path)))]) from None
    except IsADirectoryError:
        raise InputError([Problem(name, None, "", "is a directory, not a YAML file")]) from None
    except UnicodeDecodeError:
        raise InputError([Problem(name, None, "", "is not a text file in UTF-8")]) from None
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise InputError([Problem(name, None, "", reason)]) from None
    return parse(text, name)


def parse(text: str, file: str) -> Source:
    """The document in `text`; `file` is what messages call it."""
    try:
        return _Builder(text, file).source()
    except MarkedYAMLError as error:
        raise InputError([_bad_yaml(error, file)]) from None
    except YAMLError as error:
        said = str(error).splitlines()[0]
        raise InputError([Problem(file, None, "", f"not valid YAML: {said}")]) from None


def display(path: Path) -> str:
    """The path as a person would type it: relative to the working directory when it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except (ValueError, OSError):
        return str(path)


def scalar(text: str) -> Any:
    """The value of an unquoted scalar under the YAML 1.2 core schema: `1e-3` is a number, `yes` is text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Builder:
    """Turns parser events into values, noting lines; an anchor's value and lines are kept for its aliases."""

    def __init__(self, text: str, file: str) -> None:
        self._text, self._file = text, file
        self._events = YAML(typ="safe", pure=True).parse(text)
        self._key_lines: dict[Keys, int] = {}
        self._value_lines: dict[Keys, int] = {}
        self._anchors: dict[str, tuple[Any, Keys]] = {}
        self._problems: list[Problem] = []

    def source(self) -> Source:
        next(self._events)
        event = next(self._events)
        data: Any = None
        if not isinstance(event, StreamEndEvent):
            data = self._value(next(self._events), ())
            next(self._events)
            if not isinstance(following := next(self._events), StreamEndEvent):
                self._complain(
                    following, (), "a second document: keep one per file, drop the `---`"
                )
        if self._problems:
            raise InputError(self._problems)
        return Source(self._file, data, self._text, self._key_lines, self._value_lines)

    def _value(self, event: Event, keys: Keys) -> Any:
        if isinstance(event, AliasEvent):
            return self._alias(event, keys)
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        self._value_lines[keys] = _line(event)
        if event.ctag is not None:
            self._complain(
                event, keys, f"the tag `{event.ctag}` is not allowed: write a plain value"
            )
        value: Any
        if isinstance(event, ScalarEvent):
            value = scalar(event.value) if event.style is None else _paired(event.value)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(keys)
        else:
            assert isinstance(event, MappingStartEvent)
            value = self._mapping(keys)
        if event.anchor:
            self._anchors[event.anchor] = (value, keys)
        return value

    def _sequence(self, keys: Keys) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*keys, len(items))))
        return items

    def _mapping(self, keys: Keys) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = _paired(event.value) if isinstance(event, ScalarEvent) else None
            here = (*keys, key) if key is not None else keys
            if key is None:
                self._complain(event, keys, "a key must be a single word, not a list or a mapping")
            elif key == "<<" and event.style is None:
                self._complain(event, here, "merging with `<<` is not supported: repeat the keys")
            elif key in items:
                first = self._key_lines[here]
                self._complain(
                    event, here, f"is already given on line {first}: rename or remove one"
                )
            line = _line(event)
            if key is None or key in items:
                self._skip(event if key is None else next(self._events))
                if key is None:
                    self._skip(next(self._events))
                continue
            self._key_lines[here] = line
            items[key] = self._value(next(self._events), here)
        return items

    def _alias(self, event: AliasEvent, keys: Keys) -> Any:
        """The anchor's value; its inner lines stay those of the anchor, its own line is the alias's."""
        if event.anchor not in self._anchors:
            self._value_lines[keys] = _line(event)
            self._complain(
                event, keys, f"`*{event.anchor}` has no anchor `&{event.anchor}` above it"
            )
            return None
        value, home = self._anchors[event.anchor]
        for lines in (self._key_lines, self._value_lines):
            inner = {
                (*keys, *path[len(home) :]): line
                for path, line in lines.items()
                if path[: len(home)] == home and len(path) > len(home)
            }
            lines.update(inner)
        self._value_lines[keys] = _line(event)
        if len(self._value_lines) > _LARGEST:
            problem = Problem(self._file, _line(event), "", "the aliases make this file too large")
            raise InputError([problem])
        return value

    def _skip(self, event: Event) -> None:
        """Pass over a value that has no place in the result."""
        depth = 0
        while True:
            depth += isinstance(event, (MappingStartEvent, SequenceStartEvent))
            depth -= isinstance(event, (MappingEndEvent, SequenceEndEvent))
            if depth == 0:
                return
            event = next(self._events)

    def _complain(self, event: Event, keys: Keys, message: str) -> None:
        self._problems.append(Problem(self._file, _line(event), dotted(keys), message))


def _paired(text: str) -> str:
    """JSON writes rare characters as two escapes, `\\ud800\\udc00`; put them together."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return text


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _bad_yaml(error: MarkedYAMLError, file: str) -> Problem:
    said = str(error.problem or error.context or error)
    plain = next((plain for sign, plain in _PLAIN_WORDS if sign in said), said)
    opened = error.context_mark.line + 1 if error.context_mark is not None else None
    line = error.problem_mark.line + 1 if error.problem_mark is not None else opened
    if opened is not None and ("not closed" in plain or "no `key" in plain):
        line = opened
    return Problem(file, line, "", f"not valid YAML: {plain}")


def missing_file(path: Path, start: Path | None = None) -> str:
    """Why a file cannot be found; a near name is offered relative to `start`."""
    folder = path.parent
    if not folder.is_dir():
        return f"does not exist (there is no folder {display(folder)} either)"
    if path.is_dir():
        return "is a directory, not a YAML file"
    near = closest(path.name, [entry.name for entry in sorted(folder.iterdir())])
    if near is None:
        return f"does not exist; it is looked for in {display(folder)}"
    found = folder / near
    named = os.path.relpath(found, start) if start is not None else display(found)
    return f"does not exist, did you mean {named}?"
