"""How does text become values with lines? YAML 1.2 core values, nothing executable, every fault in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

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
from ruamel.yaml.reader import ReaderError

from trainer.errors import InputError, Problem
from trainer.yaml.keys import Keys, dotted
from trainer.yaml.limits import DEEPEST, MOST_VALUES, TOO_DEEP, TOO_MANY
from trainer.yaml.scalar import scalar
from trainer.yaml.scanning import Scanning

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
    ("content, but found '<stream end>'", "the text ends inside a `[` or `{`: close it"),
    ("expected the node content", "a value is missing here, or a bracket is out of place"),
    ("expected '<document start>'", "more follows after the end of the value: remove it"),
    ("sequence entries are not allowed", "an entry `- ` of a list begins on a line of its own"),
    ("mapping keys are not allowed", "a key cannot begin here: put it on a line of its own"),
    ("unexpected document separator", "a `---` inside quotes: close the quotes, or indent it"),
    ("found unexpected ':'", "a `:` inside `[` or `{`: put a space after it, or quotes around"),
    ("unknown escape character", "a `\\` in double quotes begins an escape: use single quotes"),
    ("escape sequence", "a `\\` in double quotes begins an escape: use single quotes"),
    ("alphabetic or numeric", "`*`, `&` and `%` mean something in YAML: put the text in quotes"),
    ("expected chomping", "after `|` or `>` the text begins on the next line"),
    ("a comment or a line break", "after `|` or `>` the text begins on the next line"),
    *(
        (sign, "`!` begins a tag, and tags are not allowed: put the text in quotes")
        for sign in ("undefined tag handle", "expected '>'", "expected URI", "expected '!'")
    ),
)


class Built(NamedTuple):
    """The values of a document, and the lines where keys and values start."""

    data: Any
    key_lines: dict[Keys, int]
    value_lines: dict[Keys, int]


def build(text: str, file: str) -> Built:
    """The one document in `text`. InputError lists what is wrong; `file` is what messages call it."""
    try:
        return _Builder(text, file).built()
    except InputError:
        raise
    except MarkedYAMLError as error:
        raise InputError([_bad_yaml(error, file)]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: the character U+{error.character:04X} does not occur in text"
        raise InputError([Problem(file, line, "", message)]) from None
    except (YAMLError, ValueError, OverflowError) as error:  # the latter: escapes beyond Unicode
        message = f"not valid YAML: {str(error).splitlines()[0]}"
        raise InputError([Problem(file, None, "", message)]) from None


class _Builder:
    """Turns parser events into values, noting lines; an anchor's value and lines are kept for its aliases."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        reader = YAML(typ="safe", pure=True)
        reader.Scanner = Scanning
        self._events = self._bounded(reader.parse(text))
        self._key_lines: dict[Keys, int] = {}
        self._value_lines: dict[Keys, int] = {}
        self._order: list[Keys] = []
        """Places of all values as they were met: what lies inside one is a slice."""
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        """Name to the value and its slice of `_order`."""
        self._problems: list[Problem] = []

    def built(self) -> Built:
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
        return Built(data, self._key_lines, self._value_lines)

    def _bounded(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, as long as they are no more than a document of the largest size has: keys, values, ends."""
        for number, event in enumerate(events):
            if number > 3 * MOST_VALUES:
                raise self._hopeless(event, (), TOO_MANY)
            yield event

    def _value(self, event: Event, keys: Keys) -> Any:
        self._note(keys, event)
        if isinstance(event, AliasEvent):
            return self._alias(event, keys)
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        start = len(self._order)
        if event.ctag is not None:
            self._complain(
                event, keys, f"the tag `{event.ctag}` is not allowed: write a plain value"
            )
        value: Any
        if isinstance(event, ScalarEvent):
            value = self._scalar(event, keys)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(keys)
        else:
            value = self._mapping(keys)
        if event.anchor:
            self._anchors[event.anchor] = (value, start, len(self._order))
        return value

    def _scalar(self, event: ScalarEvent, keys: Keys) -> Any:
        if event.style is not None:
            return self._text(event, keys)
        try:
            return scalar(event.value)
        except ValueError as error:
            self._complain(event, keys, str(error))
            return None

    def _sequence(self, keys: Keys) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*keys, len(items))))
        return items

    def _mapping(self, keys: Keys) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                self._complain(event, keys, "a key must be a single word, not a list or a mapping")
                self._skip(event, keys)
                self._skip(next(self._events), keys)
                continue
            key = self._text(event, keys)
            here = (*keys, key)
            if key == "<<" and event.style is None:
                self._complain(event, here, "merging with `<<` is not supported: repeat the keys")
            elif key in items:
                first = self._key_lines[here]
                self._complain(
                    event, here, f"is already given on line {first}: rename or remove one"
                )
                self._skip(next(self._events), keys)
                continue
            self._key_lines[here] = _line(event)
            items[key] = self._value(next(self._events), here)
        return items

    def _text(self, event: ScalarEvent, keys: Keys) -> str:
        """Text with escapes joined: JSON writes a rare character as two, `\\ud800\\udc00`."""
        try:
            return str(event.value.encode("utf-16", "surrogatepass").decode("utf-16"))
        except UnicodeDecodeError:
            self._complain(event, keys, "holds half a character, an escape such as `\\ud800`")
            return "?"

    def _alias(self, event: AliasEvent, keys: Keys) -> Any:
        """The anchor's value; its inner lines stay those of the anchor, its own line is the alias's."""
        if event.anchor not in self._anchors:
            self._complain(
                event,
                keys,
                f"`*{event.anchor}` has no anchor `&{event.anchor}` above it; as text it needs quotes",
            )
            return None
        value, start, end = self._anchors[event.anchor]
        home = len(self._order[start - 1])
        self._check_size(event, keys, end - start)
        for place in self._order[start:end]:
            copy = (*keys, *place[home:])
            self._check_depth(event, copy)
            self._value_lines[copy] = self._value_lines[place]
            if place in self._key_lines:
                self._key_lines[copy] = self._key_lines[place]
            self._order.append(copy)
        return value

    def _note(self, keys: Keys, event: Event) -> None:
        self._check_depth(event, keys)
        self._check_size(event, keys, 1)
        self._value_lines[keys] = _line(event)
        self._order.append(keys)

    def _check_depth(self, event: Event, keys: Keys) -> None:
        if len(keys) > DEEPEST:
            raise self._hopeless(event, keys[:1], TOO_DEEP)

    def _check_size(self, event: Event, keys: Keys, more: int) -> None:
        if len(self._order) + more > MOST_VALUES:
            raise self._hopeless(event, keys[:1], TOO_MANY)

    def _hopeless(self, event: Event, keys: Keys, message: str) -> InputError:
        return InputError([Problem(self._file, _line(event), dotted(keys), message)])

    def _skip(self, event: Event, keys: Keys) -> None:
        """Pass over a value that has no place in the result."""
        depth = 0
        while True:
            depth += isinstance(event, (MappingStartEvent, SequenceStartEvent))
            depth -= isinstance(event, (MappingEndEvent, SequenceEndEvent))
            if depth == 0:
                return
            if len(keys) + depth > DEEPEST:
                raise self._hopeless(event, keys[:1], TOO_DEEP)
            event = next(self._events)

    def _complain(self, event: Event, keys: Keys, message: str) -> None:
        self._problems.append(Problem(self._file, _line(event), dotted(keys), message))


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _bad_yaml(error: MarkedYAMLError, file: str) -> Problem:
    reason = str(error.problem or error.context or error)
    plain = next((plain for sign, plain in _PLAIN_WORDS if sign in reason), reason)
    opened = error.context_mark.line + 1 if error.context_mark is not None else None
    line = error.problem_mark.line + 1 if error.problem_mark is not None else opened
    if opened is not None and ("not closed" in plain or "no `key" in plain):
        line = opened
    return Problem(file, line, "", f"not valid YAML: {plain}")
