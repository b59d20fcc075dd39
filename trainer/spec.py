"""What is a spec? A frozen pydantic value with a canonical text, a digest and a short label.

Specs are data and component at once: the fields are what a YAML may say, the methods are the formula.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

MANY = 1_000_000
Count = Annotated[int, Field(ge=1, le=MANY)]
"""A number of things that are made or walked one by one: more is a slip of the keyboard that would fill the memory."""


@dataclass(frozen=True)
class Neutral:
    """Marks a field that was added later: `x: Annotated[int, Neutral(0)] = 3`.

    At the neutral value a spec is what it was before there was such a field: the digest leaves it out, so that
    finished trials keep their names, and what was saved without the field is read back with that value.
    """

    value: Any


class Spec(BaseModel):
    """A frozen value. Unknown keys, NaN and infinity are refused; field docstrings reach the JSON schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    def identity(self) -> dict[str, Any]:
        """What this value is, as JSON data: every field, defaults included, but those at their neutral value.

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

    @model_validator(mode="before")
    @classmethod
    def _fill_in_neutral(cls, data: Any, info: ValidationInfo) -> Any:
        if not (info.context and info.context.get(_SAVED) and isinstance(data, dict)):
            return data
        later = {
            name: mark.value
            for name, field in cls.model_fields.items()
            if name not in data
            for mark in field.metadata
            if isinstance(mark, Neutral)
        }
        return {**data, **later}

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


def _is_neutral(field: FieldInfo, value: Any) -> bool:
    return any(isinstance(mark, Neutral) and mark.value == value for mark in field.metadata)


def _identity(value: Any, dumped: Any) -> Any:
    """The identity of a value; `dumped` is its plain JSON form."""
    if isinstance(value, Spec):
        fields = type(value).model_fields
        return {
            name: _identity(getattr(value, name), dumped[name])
            for name, field in fields.items()
            if not _is_neutral(field, getattr(value, name))
        }
    if isinstance(value, list | tuple):
        return [_identity(item, plain) for item, plain in zip(value, dumped, strict=True)]
    return dumped


def _short(value: Any) -> str:
    if isinstance(value, Spec):
        return value.label()
    return f"{value:g}" if isinstance(value, float) else str(value)
