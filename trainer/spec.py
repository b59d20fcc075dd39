"""What is a spec? A frozen pydantic value with a canonical text, a digest and a short label.

Specs are data and component at once: the fields are what a YAML may say, the methods are the formula.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen value. Unknown keys, NaN and infinity are refused; field docstrings reach the JSON schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    def canonical(self) -> str:
        """The one JSON text of this value: every field, defaults included, keys sorted."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """16 hex digits of sha256 over `canonical()`: equal digest, equal spec."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

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


def _short(value: Any) -> str:
    if isinstance(value, Spec):
        return value.label()
    return f"{value:g}" if isinstance(value, float) else str(value)
