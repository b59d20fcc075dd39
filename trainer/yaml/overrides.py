"""Who set which value? A tree of values built from a file and replacements, that remembers every origin."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from trainer.errors import Problem, closest, listing, suggestion
from trainer.yaml.source import Keys, Source, dotted
from trainer.yaml.spec_paths import (
    Model,
    child,
    child_at,
    elsewhere,
    field_of,
    is_mapping,
    members,
    model_at,
)
from trainer.yaml.wording import shown, translate, unknown_key, yaml_text


@dataclass(frozen=True)
class Origin:
    """A value in a source: a file and a path there, or a command-line option."""

    source: Source
    keys: Keys

    def problem(self, below: Keys, message: str, of_key: bool = False) -> Problem:
        """A complaint about what lies `below` this value."""
        return self.source.problem((*self.keys, *below), message, of_key)


@dataclass(frozen=True)
class _Layer:
    at: Keys
    origin: Origin


@dataclass(frozen=True)
class Fault:
    """Something wrong at a path of the finished tree, not yet traced to where it was written."""

    keys: Keys
    message: str
    of_key: bool = False


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

    def put(self, keys: Keys, value: Any, origin: Origin) -> Problem | None:
        """Replace the value at `keys`; a Problem when there is nothing to put it into."""
        if not all(str(key) for key in keys):
            message = f"`{dotted(keys)}` is not a dotted path such as `train.kimg`"
            return origin.problem((), message, of_key=True)
        holder = self.data
        for depth, key in enumerate(keys[:-1], start=1):
            if isinstance(holder, dict) and holder.get(str(key)) is None:
                self._fill_in(holder, keys[: depth - 1], str(key))
            below = child(holder, key)
            if not isinstance(below, (dict, list)):
                return origin.problem((), self._no_such_place(keys, depth, below), of_key=True)
            holder = below
        last = keys[-1]
        if isinstance(holder, list):
            if not isinstance(last, int) or last >= len(holder):
                message = (
                    f"`{dotted(keys[:-1])}` is a list of {len(holder)}, there is no entry `{last}`"
                )
                return origin.problem((), message, of_key=True)
            holder[last] = copy.deepcopy(value)
        else:
            model = model_at(self.model, self.data, keys[:-1])
            if model is not None and str(last) not in model.model_fields:
                return origin.problem((), unknown_key(self.model, model, keys, True), of_key=True)
            holder[str(last)] = copy.deepcopy(value)
        self._layers.append(_Layer(keys, origin))
        return None

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

    def faults(self) -> BaseModel | list[Fault]:
        """The finished model, or everything that is wrong with it."""
        try:
            model = self.model.model_validate(self.data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            return self._without_leftovers(
                [Fault(*found) for found in translate(details, self.model, self.data)]
            )
        guesses = coerced(self.data, model.model_dump(mode="json"))
        return [Fault(keys, message) for keys, message in guesses] or model

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
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            holder[key] = default.model_dump(mode="json")
        elif isinstance(default, tuple | list):
            holder[key] = list(default)
        elif is_mapping(field):
            holder[key] = {}

    def _no_such_place(self, keys: Keys, depth: int, found: Any) -> str:
        """Why `keys[depth - 1]` cannot hold the rest of the path."""
        key, parent = str(keys[depth - 1]), dotted(keys[:depth])
        model = model_at(self.model, self.data, keys[: depth - 1])
        field = field_of(model, key)
        if field is None:
            known = list(model.model_fields) if model is not None else []
            near = closest(key, known)
            if near is not None:
                fixed = dotted((*keys[: depth - 1], near, *keys[depth:]))
                return f"there is no `{parent}`, did you mean `{fixed}`?"
            homes = elsewhere(self.model, str(keys[-1]))
            if homes:
                return f"there is no `{parent}`, did you mean `{homes[0]}`?"
            return f"there is no `{parent}`{suggestion(key, known)}"
        if members(field.annotation):
            said = "is not set" if found is None else f"is {shown(found)}"
            return (
                f"`{parent}` {said}, so nothing inside it can be changed: give it a whole mapping"
            )
        return f"`{parent}` is a single value, there is nothing inside it"


def split(path: str) -> Keys:
    """`optimizer.betas.0` as keys; digits address a list."""
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def covers(keys: Keys, other: Keys) -> bool:
    """Whether setting `keys` replaces what was set at `other`."""
    return other[: len(keys)] == keys


def coerced(given: Any, became: Any, keys: Keys = ()) -> list[tuple[Keys, str]]:
    """Where a lenient parser would guess: text or true/false given for a number, text for true/false."""
    if isinstance(given, dict) and isinstance(became, dict):
        pairs = [(key, given[key], became[key]) for key in given if key in became]
        return [found for key, old, new in pairs for found in coerced(old, new, (*keys, key))]
    if isinstance(given, list) and isinstance(became, list) and len(given) == len(became):
        every = enumerate(zip(given, became, strict=True))
        return [found for at, (old, new) in every for found in coerced(old, new, (*keys, at))]
    if isinstance(became, bool) and not isinstance(given, bool):
        return [(keys, f"must be true or false, not {shown(given)}")]
    is_number = isinstance(became, (int, float)) and not isinstance(became, bool)
    if is_number and isinstance(given, str):
        return [(keys, f"must be a number, not text: write {yaml_text(became)} without quotes")]
    if is_number and isinstance(given, bool):
        return [(keys, f"must be a number, not {shown(given)}")]
    return []
