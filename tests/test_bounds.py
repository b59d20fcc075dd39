"""Has every number of a YAML a smallest and a largest value? A slip of the keyboard is refused by its field."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest

import service
import trainer
from trainer.spec import Spec


def members(model: type[Spec] = Spec) -> Iterator[type[Spec]]:
    """Every class of specs that a YAML can name."""
    for each in model.__subclasses__():
        if each.__module__.startswith(("trainer.", "service.")):
            yield each
        yield from members(each)


def unbounded(annotation: Any, metadata: list[Any]) -> Iterator[str]:
    """What in a field's type is a number without two ends: more than 0 is none, 1e-300 is, and is 0 for a network."""
    if annotation in (int, float):
        parts = [part for mark in metadata for part in (mark, *getattr(mark, "metadata", ()))]
        low = any(hasattr(part, "ge") or getattr(part, "gt", 0) != 0 for part in parts)
        high = any(hasattr(part, "le") or hasattr(part, "lt") for part in parts)
        if not (low and high):
            yield annotation.__name__
    elif hasattr(annotation, "__metadata__"):
        yield from unbounded(annotation.__origin__, [*annotation.__metadata__, *metadata])
    elif get_origin(annotation) is not None:
        is_tuple = get_origin(annotation) is tuple
        for part in get_args(annotation):
            yield from unbounded(part, [] if is_tuple else metadata)


def _fields() -> Iterator[tuple[str, list[str]]]:
    for package in (trainer, service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for model in sorted(set(members()), key=lambda each: (each.__module__, each.__name__)):
        for name, field in model.model_fields.items():
            found = list(unbounded(field.annotation, list(field.metadata)))
            yield f"{model.__module__}.{model.__name__}.{name}", found


def test_every_number_of_a_spec_has_two_ends() -> None:
    fields = dict(_fields())
    assert len(fields) > 400
    assert [name for name, found in fields.items() if found] == []


@pytest.mark.parametrize(
    ("annotation", "found"), [(float, ["float"]), (tuple[int, float] | None, ["int", "float"])]
)
def test_a_number_without_ends_is_seen(annotation: Any, found: list[str]) -> None:
    assert list(unbounded(annotation, [])) == found
