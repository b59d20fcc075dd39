"""Who set which value? A tree of values built from a file and replacements, that remembers every origin."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from trainer.errors import InputError, Problem, closest, listing, suggestion
from trainer.yaml.faults import Fault, coerced, too_large, uncountable
from trainer.yaml.keys import Keys, dotted, split
from trainer.yaml.source import Source, parse
from trainer.yaml.spec_paths import (
    Model,
    annotation_at,
    child,
    child_at,
    choose,
    elsewhere,
    field_of,
    is_mapping,
    members,
    model_at,
)
from trainer.yaml.wording import shown, translate, unknown_key

_LONGEST_OPTION = 200
_MOST_FAULTS = 200
"""Faults of one tree that are told apart, each beside all others."""


@dataclass(frozen=True)
class Origin:
    """A value in a source: a file and a path there, or a command-line option."""

    source: Source
    keys: Keys

    def problem(self, below: Keys, message: str, of_key: bool = False) -> Problem:
        """A complaint about what lies `below` this value."""
        return self.source.problem((*self.keys, *below), message, of_key)

    def below(self, key: str) -> Origin:
        """One step further down in the same source."""
        return Origin(self.source, (*self.keys, key))


@dataclass
class Merged:
    """What an override did."""

    placed: dict[Keys, Any] = field(default_factory=dict)
    """Where a value was replaced, and by what."""
    problems: list[Problem] = field(default_factory=list)
    """What could not be placed."""
    resets: list[Problem] = field(default_factory=list)
    """Settings that fell back to their defaults, worth a note."""


@dataclass(frozen=True)
class _Layer:
    at: Keys
    origin: Origin


class Layered:
    """A mapping under construction, checked against the model that it is meant to become."""

    def __init__(self, data: Any, origin: Origin, model: Model) -> None:
        self.data: Any = copy.deepcopy(data)
        self.model = model
        self._layers = [_Layer((), origin)]

    def copy(self) -> Layered:
        """An independent tree with the same history."""
        twin = Layered(self.data, self._layers[0].origin, self.model)
        twin._layers = list(self._layers)
        return twin

    def below(self, key: str, model: Model) -> Layered:
        """The value at `key` as a tree of its own, with the origins of all that is in it."""
        origin, inner = self._layers[0].origin.below(key), list[_Layer]()
        for layer in self._layers[1:]:
            if layer.at == (key,):
                origin, inner = layer.origin, []
            elif layer.at[:1] == (key,):
                inner.append(_Layer(layer.at[1:], layer.origin))
        tree = Layered(self.data[key], origin, model)
        tree._layers += inner
        return tree

    def merge(self, keys: Keys, value: Any, origin: Origin) -> Merged:
        """Override the value at `keys`: a mapping without `kind` key by key, everything else as a whole.

        So `optimizer: {lr: 1e-3}` is `optimizer.lr: 1e-3`, and `{kind: p2}` begins with the defaults of p2.
        """
        merged = Merged()
        self._merge(keys, value, origin, merged)
        return merged

    def _merge(self, keys: Keys, value: Any, origin: Origin, merged: Merged) -> None:
        is_part = isinstance(value, dict) and "kind" not in value
        if is_part and isinstance(self._there(keys), dict):
            for key, item in value.items():
                self._merge((*keys, *split(key)), item, origin.below(key), merged)
            return
        lost = self._reset_by(keys, value)
        if (problem := self.put(keys, value, origin)) is not None:
            merged.problems.append(problem)
            return
        merged.placed[keys] = value
        if lost:
            message = f"names its `kind` and so replaces the whole value: {listing(lost)} "
            message += f"{'falls' if len(lost) == 1 else 'fall'} back to the default; "
            message += f"leave `kind` out to keep {'it' if len(lost) == 1 else 'them'}"
            merged.resets.append(origin.problem((), message, of_key=True))

    def put(self, keys: Keys, value: Any, origin: Origin) -> Problem | None:
        """Replace the whole value at `keys`; a Problem when there is nothing to put it into."""
        holder = self._holder(keys)
        if isinstance(holder, str):
            return origin.problem((), holder, of_key=True)
        last = keys[-1]
        if isinstance(holder, list):
            if not isinstance(last, int) or last >= len(holder):
                return origin.problem((), _no_entry(keys, holder), of_key=True)
            holder[last] = copy.deepcopy(value)
        else:
            model = model_at(self.model, self.data, keys[:-1])
            if model is not None and str(last) not in model.model_fields:
                return origin.problem(
                    (), unknown_key(self.model, self.data, keys, True), of_key=True
                )
            holder[str(last)] = copy.deepcopy(value)
        self._layers.append(_Layer(keys, origin))
        return None

    def _holder(self, keys: Keys) -> dict[str, Any] | list[Any] | str:
        """The mapping or list that holds the last of `keys`, or why there is none."""
        if not all(str(key) for key in keys):
            return f"`{dotted(keys)}` is not a dotted path such as `train.kimg`"
        holder: dict[str, Any] | list[Any] = self.data
        for depth, key in enumerate(keys[:-1], start=1):
            if isinstance(holder, dict) and holder.get(str(key)) is None:
                self._fill_in(holder, keys[: depth - 1], str(key))
            below = child(holder, key)
            if not isinstance(below, (dict, list)):
                return self._no_such_place(keys, depth, below)
            holder = below
        return holder

    def _there(self, keys: Keys) -> Any:
        """The present value at `keys`, a default included; None where there is none."""
        holder = self._holder(keys)
        if isinstance(holder, dict) and holder.get(str(keys[-1])) is None:
            self._fill_in(holder, keys[:-1], str(keys[-1]))
        return child(holder, keys[-1])

    def _reset_by(self, keys: Keys, value: Any) -> list[str]:
        """What is set at `keys` and falls back to its default when `value`, of the same kind, replaces it."""
        present = child_at(self.data, keys)
        if not isinstance(present, dict) or not isinstance(value, dict):
            return []
        candidates = members(annotation_at(self.model, self.data, keys))
        model = choose(candidates, value)
        if model is None or choose(candidates, present) is not model:
            return []
        try:
            before = model.model_validate(present)
        except ValidationError:  # told elsewhere
            return []
        return [
            name
            for name, own in model.model_fields.items()
            if name not in value and name != "kind" and getattr(before, name) != _default(own)
        ]

    def origin_of(self, keys: Keys) -> tuple[Origin, Keys]:
        """The latest layer that has to do with the value at `keys`, and the path below that layer."""
        for layer in reversed(self._layers):
            if keys[: len(layer.at)] == layer.at:
                return layer.origin, keys[len(layer.at) :]
            if layer.at[: len(keys)] == keys:
                return layer.origin, ()
        raise AssertionError("the first layer covers everything")

    def problem(self, keys: Keys, message: str, of_key: bool = False) -> Problem:
        """A complaint about the value at `keys`, at the place where it was written."""
        origin, below = self.origin_of(keys)
        return origin.problem(below, message, of_key)

    def model_or_raise(self) -> BaseModel:
        """The finished model; InputError with everything that is wrong, where it was written."""
        outcome = self.faults()
        if isinstance(outcome, list):
            raise InputError(
                [self.problem(fault.keys, fault.message, fault.of_key) for fault in outcome]
            )
        return outcome

    def faults(self) -> BaseModel | list[Fault]:
        """The finished model, or everything that is wrong with it."""
        if nonsense := uncountable(self.data):
            return nonsense
        try:
            model = self.model.model_validate(self.data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            first = translate(details[:_MOST_FAULTS], self.model, self.data)
            faults = self._without_leftovers([Fault(*fault) for fault in first])
            rest = len(details) - _MOST_FAULTS
            more = f"has {rest:,} more faults such as these: mend these first"
            return [*faults, Fault((), more)] if rest > 0 else faults
        except (OverflowError, MemoryError):
            return [too_large(self.data)]
        return list(coerced(self.data, model.model_dump(mode="json"))) or model

    def _without_leftovers(self, faults: list[Fault]) -> list[Fault]:
        """Keys that belong to a former kind, after only `kind` was replaced, become one fault of that kind."""
        leftovers: dict[Keys, list[str]] = {}
        others = []
        for fault in faults:
            kind = (*fault.keys[:-1], "kind")
            replaced = [layer for layer in self._layers if layer.at == kind]
            if fault.of_key and replaced and self.origin_of(fault.keys)[0] != replaced[-1].origin:
                leftovers.setdefault(kind, []).append(str(fault.keys[-1]))
            else:
                others.append(fault)
        for kind, names in leftovers.items():
            now = child_at(self.data, kind)
            message = f"`{now}` does not take {listing(names)}, which the former kind had: "
            whole = f"replace the whole value, `{dotted(kind[:-1])}: {{kind: {now}}}`"
            others.append(Fault(kind, message + whole))
        return others

    def is_first(self, keys: Keys) -> bool:
        """Whether the value at `keys` is still the one that the tree began with."""
        return self.origin_of(keys)[0] == self._layers[0].origin

    def _fill_in(self, holder: dict[str, Any], above: Keys, key: str) -> None:
        """What the file leaves to the default becomes visible, so that a path can reach into it."""
        field = field_of(model_at(self.model, self.data, above), key)
        if field is None or field.is_required():
            return
        default = _default(field)
        if isinstance(default, BaseModel | tuple | list):
            holder[key] = to_jsonable_python(default)
        elif is_mapping(field):
            holder[key] = {}

    def _no_such_place(self, keys: Keys, depth: int, present: Any) -> str:
        """Why `keys[depth - 1]` cannot hold the rest of the path."""
        key, parent = str(keys[depth - 1]), dotted(keys[:depth])
        above = child_at(self.data, keys[: depth - 1])
        if isinstance(above, list) and present is None:
            return _no_entry(keys[:depth], above)
        annotation = annotation_at(self.model, self.data, keys[:depth])
        if annotation is None:
            model = model_at(self.model, self.data, keys[: depth - 1])
            known = list(model.model_fields) if model is not None else []
            near = closest(key, known)
            if near is not None:
                fixed = dotted((*keys[: depth - 1], near, *keys[depth:]))
                return f"there is no `{parent}`, did you mean `{fixed}`?"
            homes = elsewhere(self.model, str(keys[-1]))
            if homes:
                return f"there is no `{parent}`, did you mean `{homes[0]}`?"
            return f"there is no `{parent}`{suggestion(key, known)}"
        if members(annotation):
            state = "is not set" if present is None else f"is {shown(present)}"
            return (
                f"`{parent}` {state}, so nothing inside it can be changed: give it a whole mapping"
            )
        return f"`{parent}` is a single value, there is nothing inside it"


def read_option(text: str) -> tuple[str, Source]:
    """The path and the value of a command line's `-o path=value`; InputError when it is none."""
    path, equals, written = text.partition("=")
    path = path.strip()
    name = f"-o {text if len(text) <= _LONGEST_OPTION else text[:_LONGEST_OPTION] + '...'}"
    if not equals or not path:
        message = "write an override as -o path=value, such as -o train.kimg=20"
        raise InputError([Problem(name, None, "", message)])
    try:
        return path, Source(name, parse(written, name).data)
    except InputError as error:
        raise InputError([Problem(name, None, path, p.message) for p in error.problems]) from None


def _no_entry(keys: Keys, entries: list[Any]) -> str:
    return f"`{dotted(keys[:-1])}` is a list of {len(entries)}, there is no entry `{keys[-1]}`"


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})
