"""Which keys does a spec know at a dotted path? Walks pydantic models by name and by `kind`."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.described import described

Model = type[BaseModel]


def members(annotation: Any) -> list[Model]:
    """The models that an annotation allows: `Annotated`, unions and `None` looked through, lists not."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in members(part)]
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if is_model else []


def entry(annotation: Any) -> Any:
    """The annotation of the entries of a list or tuple, or None where an annotation allows neither."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return entry(parts[0])
    if origin in (Union, types.UnionType):
        return next((inner for part in parts if (inner := entry(part)) is not None), None)
    return parts[0] if origin in (list, tuple) else None


def has_short_form(annotation: Any) -> bool:
    """Whether a bare kind, such as `fid`, may stand for its mapping."""
    marks = getattr(annotation, "__metadata__", ())
    return any(str in get_args(getattr(mark, "json_schema_input_type", None)) for mark in marks)


def is_mapping(field: FieldInfo) -> bool:
    """Whether a field holds free names, as `arms` does."""
    parts = (field.annotation, *get_args(field.annotation))
    return any(part is dict or get_origin(part) is dict for part in parts)


def kind_of(model: Model) -> str | None:
    """The discriminator of a union member."""
    kind = model.model_fields.get("kind")
    values = get_args(kind.annotation) if kind and get_origin(kind.annotation) is Literal else ()
    return str(values[0]) if values else None


def kinds(models: Sequence[Model]) -> list[str]:
    """The kinds of these union members."""
    return [kind for model in models if (kind := kind_of(model)) is not None]


def choose(models: Sequence[Model], data: Any) -> Model | None:
    """The member that `data` is written for: by its `kind`, or the only one, or the one `assumed` without a kind."""
    if len(models) == 1:
        return models[0]
    if not isinstance(data, dict):
        return None
    kind = data.get("kind")
    if kind is None:
        return next((model for model in models if getattr(model, "assumed", False)), None)
    return next((model for model in models if kind_of(model) == kind), None)


def field_of(model: Model | None, name: str) -> FieldInfo | None:
    """The field, or None."""
    return model.model_fields.get(name) if model is not None else None


def annotation_at(root: Model, data: Any, path: Sequence[str | int]) -> Any:
    """What the value at `path` of `data` may be, or None where there is no such place."""
    annotation: Any = root
    for part in path:
        if isinstance(part, int):
            annotation = entry(annotation)
        else:
            field = field_of(choose(members(annotation), data), part)
            annotation = field.annotation if field is not None else None
        data = child(data, part)
    return annotation


def model_at(root: Model, data: Any, path: Sequence[str | int]) -> Model | None:
    """The model that holds for the mapping at `path` of `data`, or None where there is none."""
    return choose(members(annotation_at(root, data, path)), child_at(data, path))


def child(data: Any, part: str | int) -> Any:
    """One step down, or None."""
    if isinstance(data, dict):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and 0 <= part < len(data):
        return data[part]
    return None


def child_at(data: Any, path: Sequence[str | int]) -> Any:
    """The value at `path`, or None."""
    for part in path:
        data = child(data, part)
    return data


@cache
def paths(root: Model) -> tuple[str, ...]:
    """Every dotted path that some YAML could set, shallow ones first."""
    return tuple(sorted(dict.fromkeys(_paths(root, "")), key=lambda path: path.count(".")))


def _paths(model: Model, prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for member in members(field.annotation):
            yield from _paths(member, f"{prefix}{name}.")


def elsewhere(root: Model, name: str) -> list[str]:
    """The dotted paths whose last word is `name`."""
    return [path for path in paths(root) if path.rpartition(".")[2] == name and path != name]


def purpose(model: Model, name: str) -> str:
    """The first sentence of what a field's docstring says, without its full stop."""
    text = described(model).get(name, "").strip().split("\n")[0]
    return text.split(". ")[0].rstrip(".")
