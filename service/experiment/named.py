"""How is an experiment had by its name alone? `Experiment("name")`: the one of that name that was run last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class Named(type):
    """Of a class whose objects can be read back by name: calling it with a text alone does that."""

    by_name: Callable[[str, Path | None], Any]
    """Name and home to the object; set by who can read it."""

    def __call__(cls, *given: Any, **more: Any) -> Any:
        """An object from its fields, or by its name and, if given, `home`."""
        if len(given) == 1 and isinstance(given[0], str) and set(more) <= {"home"}:
            return cls.by_name(given[0], more.get("home"))
        if len(given) == 1 and set(more) <= {"home"}:
            raise TypeError(
                f"an experiment is had by the name it was run under, a text, not by {given[0]!r:.60}: a YAML file is "
                "read by Experiment.from_yaml(path), a mapping by Experiment.from_mapping(data)"
            )
        return super().__call__(*given, **more)
