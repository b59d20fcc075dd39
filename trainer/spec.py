"""What is a spec? A frozen pydantic value with a canonical text, a digest and a short label.

Specs are data and component at once: the fields are what a YAML may say, the methods are the formula.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema

from trainer.described import described

_Members = TypeVar("_Members")

if TYPE_CHECKING:
    Family = Annotated[_Members, "told apart by kind"]
else:

    class Family:
        """`Family[A | B]`: the members told apart by `kind`. `Family[A]` is A, until B joins its list."""

        def __class_getitem__(cls, members: Any) -> Any:
            is_union = get_origin(members) in (Union, UnionType)
            return Annotated[members, Field(discriminator="kind")] if is_union else members


@dataclass(frozen=True)
class Neutral:
    """Marks a field that was added later: `x: Annotated[int, Neutral(0)] = 3`.

    At the neutral value a spec is what it was before there was such a field: the digest leaves it out, so that
    finished trials keep their names, and what was saved without the field is read back with that value. The
    value is what a YAML would say. A class with a mark that could not work is refused with a TypeError.
    """

    value: Any


@dataclass(frozen=True)
class Incidental:
    """Marks a field that says where something lies: a digest sees `value` there, and another field says what it is."""

    value: Any = None


class Spec(BaseModel):
    """A frozen value. Unknown keys, NaN and infinity are refused; field docstrings reach the JSON schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if _marked_inside(field.annotation):
                raise TypeError(
                    f"{cls.__name__}.{name}: Neutral marks a whole field and is lost inside its type: "
                    "write Annotated[int | None, Neutral(0)], not Annotated[int, Neutral(0)] | None"
                )
        if cls.__pydantic_complete__:  # else at first use: it refers to a class further down
            _neutral(cls)

    def identity(self) -> dict[str, Any]:
        """What this value is, as JSON data: every field, defaults included, but those at their neutral value.

        Of incidental fields the stated value stands for any.

        For digests. What is to be read back is `model_dump`.
        """
        return _identity(self, self.model_dump(mode="json"))

    def canonical(self) -> str:
        """The one JSON text of `identity()`, keys sorted."""
        return json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """16 hex digits of sha256 over `canonical()`: equal digest, equal spec."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    @classmethod
    def saved(cls, data: str | bytes | dict[str, Any]) -> Self:
        """A spec that an earlier version may have saved: fields it did not know get their neutral values."""
        given = data if isinstance(data, dict) else json.loads(data)
        return cls.model_validate(given, context={_SAVED: True})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """With the docstrings of the fields."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in described(cls).items():
            if name in properties:
                properties[name].setdefault("description", text)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _fill_in_neutral(cls, data: Any, info: ValidationInfo) -> Any:
        if not (info.context and info.context.get(_SAVED) and isinstance(data, dict)):
            return data
        return {**_neutral(cls), **data}

    def label(self) -> str:
        """Short text for tables and legends: the kind and what differs from its defaults."""
        given = {
            name: _short(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if name != "kind"
            and getattr(self, name) != field.get_default(call_default_factory=True)
        }
        kind = str(getattr(self, "kind", type(self).__name__))
        return f"{kind}({', '.join(f'{k}={v}' for k, v in given.items())})" if given else kind


_SAVED = "saved"
_NEVER = object()
"""Equals no value of a field."""


@cache
def _neutral(model: type[Spec]) -> dict[str, Any]:
    """Marked fields and their neutral values, as the fields hold them. TypeError when one would not."""
    fields = model.model_fields
    marks = {
        name: mark.value
        for name, field in fields.items()
        for mark in field.metadata
        if isinstance(mark, Neutral)
    }
    if not marks:
        return {}
    marked: dict[str, Any] = {name: (fields[name].annotation, fields[name]) for name in marks}
    try:
        held = create_model(model.__name__, __config__=model.model_config, **marked)(**marks)
    except ValidationError as error:
        raise TypeError(f"{model.__name__}: Neutral of a value that is none: {error}") from None
    return {name: getattr(held, name) for name in marks}


def _marked_inside(annotation: Any) -> bool:
    """Whether a part of a field's type has the mark."""
    own = getattr(annotation, "__metadata__", ())
    return any(isinstance(mark, Neutral) for mark in own) or any(
        _marked_inside(part) for part in get_args(annotation)
    )


def _identity(value: Any, dumped: Any) -> Any:
    """The identity of a value; `dumped` is its plain JSON form."""
    if isinstance(value, Spec):
        neutral, fields = _neutral(type(value)), type(value).model_fields
        own = {
            name: _identity(held, dumped[name])
            for name in fields
            if (held := getattr(value, name)) != neutral.get(name, _NEVER)
        }
        marks = {n: m for n in own for m in fields[n].metadata if isinstance(m, Incidental)}
        return own | {name: mark.value for name, mark in marks.items()}
    if isinstance(value, list | tuple):
        return [_identity(item, plain) for item, plain in zip(value, dumped, strict=True)]
    return dumped


def _short(value: Any) -> str:
    if isinstance(value, Spec):
        return value.label()
    return f"{value:g}" if isinstance(value, float) else str(value)
