"""What do the docstrings below a class's fields say? Read from its source when somebody asks, not at every start."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise


@cache
def described(model: type) -> dict[str, str]:
    """Field to the text below it, of the class and those it inherits from; classes without a source have none."""
    texts: dict[str, str] = {}
    for part in reversed(model.__mro__):
        texts |= _of_module(part.__module__).get(part.__qualname__, {})
    return texts


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Class to its fields' texts."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (KeyError, OSError, TypeError):
        return {}
    return dict(_classes(tree, ""))


def _classes(tree: ast.AST, above: str) -> Iterator[tuple[str, dict[str, str]]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield above + node.name, _fields(node)
            yield from _classes(node, f"{above}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield from _classes(node, f"{above}{node.name}.<locals>.")


def _fields(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for field, below in pairwise(node.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[field.target.id] = inspect.cleandoc(str(below.value.value))
    return texts
