"""How does pydantic's complaint read in plain words? Every error type a spec can raise, as one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args, get_origin

from trainer.errors import closest, listing, suggestion
from trainer.yaml.keys import Keys, dotted
from trainer.yaml.spec_paths import (
    Model,
    annotation_at,
    child,
    child_at,
    elsewhere,
    entry,
    field_of,
    has_short_form,
    kind_of,
    kinds,
    members,
    model_at,
    purpose,
)
from trainer.yaml.writer import yaml_text

Detail = Mapping[str, Any]

_PLAIN: Final[dict[str, str]] = {
    "int_type": "must be a whole number, not {given}",
    "int_parsing": "must be a whole number, not {given}",
    "int_parsing_size": "must be a smaller number, not {given}",
    "int_from_float": "must be a whole number, not {given}",
    "float_type": "must be a number, not {given}",
    "float_parsing": "must be a number, not {given}",
    "finite_number": "must be a finite number, not {given}",
    "bool_type": "must be true or false, not {given}",
    "bool_parsing": "must be true or false, not {given}",
    "string_type": "must be text, not {given}",
    "path_type": "must be a path, not {given}",
    "list_type": "must be a list such as [1, 2], not {given}",
    "tuple_type": "must be a list such as [1, 2], not {given}",
    "dict_type": "must be a mapping `key: value`, not {given}",
    "mapping_type": "must be a mapping `key: value`, not {given}",
    "model_type": "must be a mapping `key: value`, not {given}",
    "model_attributes_type": "must be a mapping `key: value`, not {given}",
    "dataclass_type": "must be a mapping `key: value`, not {given}",
    "none_required": "must be null, not {given}",
    "greater_than": "must be greater than {gt}, not {given}",
    "greater_than_equal": "must be {ge} or more, not {given}",
    "less_than": "must be less than {lt}, not {given}",
    "less_than_equal": "must be {le} or less, not {given}",
    "multiple_of": "must be a multiple of {multiple_of}, not {given}",
    "too_short": "needs {min_length} or more entries, it has {actual_length}",
    "too_long": "takes at most {max_length} entries, it has {actual_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match `{pattern}`, not {given}",
}

_QUOTES: Final = ": put it in quotes"
_LONGEST: Final = 300
"""Characters of a validator's message: some quote what was written."""
_ALMOST_NOTHING: Final = 0.01
"""A least value below this is said to those who come near it: others are told of zero."""
_PATH: Final = re.compile(r"([a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*): ")
"""A validator's message may begin with the path of the field at fault."""


def plain_message(detail: Detail) -> str:
    """One sentence for an error that needs no knowledge of the spec around it."""
    kind, context = str(detail["type"]), dict(detail.get("ctx", {}))
    if kind == "missing":
        return "is missing"
    if kind in ("value_error", "assertion_error"):
        message = str(context.get("error", detail["msg"])).strip()
        return message if len(message) <= _LONGEST else f"{message[: _LONGEST - 3]}..."
    if kind in ("literal_error", "enum"):
        allowed = [word.strip().strip("'") for word in _words(str(context["expected"]))]
        near = closest(str(detail["input"]), allowed)
        choice = " or ".join(f"`{word}`" for word in allowed)
        message = f"must be {choice}, not {shown(detail['input'])}"
        return message + (f", did you mean `{near}`?" if near else "")
    template = _PLAIN.get(kind)
    if template is None:
        return str(detail["msg"])
    if (
        kind == "greater_than_equal"
        and 0 < context["ge"] < _ALMOST_NOTHING
        and detail["input"] <= 0
    ):
        template, context = _PLAIN["greater_than"], {"gt": 0}
    if kind == "int_parsing_size" and _is_negative(detail["input"]):
        template = template.replace("smaller", "larger")
    limits = {name: _number(limit) for name, limit in context.items()}
    message = template.format(given=shown(detail["input"]), **limits)
    if kind == "string_type" and isinstance(detail["input"], int | float):
        message += _QUOTES
    return message


def _is_negative(given: Any) -> bool:
    return given.strip().startswith("-") if isinstance(given, str) else bool(given < 0)


def _number(limit: Any) -> Any:
    """A limit as a person writes it: 1,000,000 instead of 1e+06."""
    if not isinstance(limit, int | float):
        return limit
    return f"{limit:,.0f}" if limit == int(limit) else f"{limit:g}"


def shown(value: Any) -> str:
    """A value as the YAML would write it, in backquotes, cut to a line."""
    if isinstance(value, str):
        text = value if value.isprintable() else yaml_text(value)
        kind = "the text " if _looks_numeric(value) else ""
        return f"{kind}`{text if len(text) <= 60 else text[:57] + '...'}`"
    text = yaml_text(value)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def translate(details: Iterable[Detail], root: Model, data: Any) -> list[tuple[Keys, str, bool]]:
    """(path in `data`, message, whether the key is at fault) of every error, labels of unions removed."""
    by_place: dict[Keys, list[tuple[str, bool]]] = {}
    every = list(details)
    for detail in every:
        keys = path_in(
            data, detail["loc"], missing=detail["type"] in ("missing", "extra_forbidden")
        )
        inner = any(
            len(other["loc"]) > len(detail["loc"]) for other in every if _within(other, detail)
        )
        if detail["type"] == "too_short" and inner:
            continue  # entries that are wrong themselves do not count as entries
        if detail["type"] == "missing" and _misspelt(root, data, keys):
            continue  # the unknown key says what it was meant to be
        keys, message, at_key = _one(detail, keys, root, data)
        by_place.setdefault(keys, []).append((message, at_key))
    return [
        (keys, _joined([message for message, _ in faults]), any(at_key for _, at_key in faults))
        for keys, faults in by_place.items()
    ]


def _within(inner: Detail, outer: Detail) -> bool:
    return inner["loc"][: len(outer["loc"])] == outer["loc"]


def _misspelt(root: Model, data: Any, keys: Keys) -> bool:
    """Whether a key that is not there was written with a slip."""
    holder, given = model_at(root, data, keys[:-1]), child_at(data, keys[:-1])
    if holder is None or not isinstance(given, dict):
        return False
    strangers = [key for key in given if key not in holder.model_fields]
    return any(closest(key, holder.model_fields) == keys[-1] for key in strangers)


def path_in(data: Any, location: Sequence[str | int], missing: bool) -> Keys:
    """pydantic's location without the labels it inserts for union members."""
    keys: list[str | int] = []
    for position, part in enumerate(location):
        last = position == len(location) - 1
        present = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        is_label = isinstance(data, dict) and data.get("kind") == part and not (last and missing)
        if (present and not is_label) or (last and missing):
            keys.append(part)
            data = child(data, part)
    return tuple(keys)


def _one(detail: Detail, keys: Keys, root: Model, data: Any) -> tuple[Keys, str, bool]:
    kind = detail["type"]
    if kind in ("union_tag_invalid", "union_tag_not_found", "model_attributes_type", "model_type"):
        return _wrong_kind(detail, keys, root, data)
    holder = model_at(root, data, keys[:-1])
    name = str(keys[-1]) if keys else ""
    if kind == "extra_forbidden":
        return keys, unknown_key(root, data, keys), True
    if kind == "missing":
        about = purpose(holder, name) if holder is not None else ""
        about = f" ({about})" if about else ""
        return keys, f"is missing{about}", False
    if kind in ("list_type", "tuple_type"):
        one = entry(annotation_at(root, data, keys))
        words = get_args(one) if get_origin(one) is Literal else ()
        example = detail["input"] if detail["input"] in words else next(iter(words), None)
        if known := kinds(members(one)):
            example = known[0] if has_short_form(one) else f"{{kind: {known[0]}}}"
        if example is not None:
            message = f"must be a list such as [{example}], not {shown(detail['input'])}"
            return keys, message, False
    message = plain_message(detail)
    if kind == "value_error":
        below, message = leading_path(root, data, message, keys)
        keys = (*keys, *below)
    return keys, message, False


def leading_path(root: Model, data: Any, message: str, keys: Keys = ()) -> tuple[Keys, str]:
    """Split `channels: too wide`, said of the model at `keys`, into the field's path below it and the rest."""
    begun = _PATH.match(message)
    if begun is None:
        return (), message
    below = tuple(begun[1].split("."))
    above = (*keys, *below[:-1])
    holder, given = model_at(root, data, above), child_at(data, above)
    is_free = holder is None and isinstance(given, dict) and below[-1] in given
    is_place = is_free or field_of(holder, below[-1]) is not None
    return (below, message[begun.end() :]) if is_place else ((), message)


def unknown_key(root: Model, data: Any, keys: Keys, whole: bool = False) -> str:
    """Why a key is refused and which was probably meant; `whole`: it was written as a dotted path."""
    name, holder = str(keys[-1]), model_at(root, data, keys[:-1])
    if name in (former := getattr(holder, "former", {})):
        return f"unknown key: {former[name]}"
    known = (
        [field for field in holder.model_fields if field != "kind"] if holder is not None else []
    )
    kind = kind_of(holder) if holder is not None else None
    owner = f" of `{kind}`" if kind is not None else ""
    near = closest(name, known)
    if near is not None:
        meant = ".".join(map(str, (*keys[:-1], near))) if whole else near
        return f"unknown key{owner}, did you mean `{meant}`?"
    rivals = members(annotation_at(root, data, keys[:-1]))
    if any(field_of(rival, name) is not None for rival in rivals):
        return f"unknown key{owner}: it belongs to another kind of `{dotted(keys[:-1])}`"
    homes = elsewhere(root, name)
    if homes:
        return f"unknown key{owner}, did you mean `{homes[0]}`?"
    return (
        f"unknown key{owner}; known: {listing(known)}"
        if known
        else f"unknown key{owner}: it takes none"
    )


def _wrong_kind(detail: Detail, keys: Keys, root: Model, data: Any) -> tuple[Keys, str, bool]:
    """A union member that is not named, misspelt, or no mapping at all."""
    annotation, given = annotation_at(root, data, keys), child_at(data, keys)
    known = kinds(members(annotation))
    if not known:
        return keys, plain_message(detail), False
    if not isinstance(given, dict):
        near = closest(given, known) if isinstance(given, str) else None
        example = f"a mapping such as {{kind: {near or known[0]}}}"
        if has_short_form(annotation):
            example = f"a kind such as `{known[0]}`, or {example}"
        others = "" if near else f"; kinds: {listing(known)}"
        return keys, f"must be {example}, not {shown(given)}{others}", False
    if given.get("kind") is None:
        return keys, f"needs a `kind`: {listing(known)}", False
    kind = given["kind"]
    if not isinstance(kind, str):
        message = f"must be the name of a kind, not {shown(kind)}: {listing(known)}"
    else:
        message = f"unknown kind {shown(kind)}{suggestion(kind, known)}"
    return (*keys, "kind"), message, False


def _joined(messages: Sequence[str]) -> str:
    """What several members of a union said of one value: `must be A or B, not X`."""
    unique = list(dict.fromkeys(messages))
    if len(unique) > 1:
        unique = [text.removesuffix(_QUOTES) for text in unique]
    if len(unique) == 1 or not all(text.startswith("must be ") for text in unique):
        return "; ".join(unique)
    ending = ", not " + unique[0].rpartition(", not ")[2]
    wanted = [text.removesuffix(ending).removeprefix("must be ") for text in unique]
    return f"must be {' or '.join(wanted)}{ending}"


def _words(expected: str) -> list[str]:
    return [word for word in expected.replace(" or ", ", ").split(", ") if word.strip()]


def _looks_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
