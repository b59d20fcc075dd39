"""Proves that the house is as DESIGN draws it: no two modules import each other in a circle, no room is too long."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("trainer", "service", "dashboards")
LONGEST_FILE, LONGEST_FUNCTION = 300, 80


def files() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring; empty if there is none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        ring: list[str] = error.args[1]
        return ring
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Those inside functions and those for type checkers count, too."""
    graph = grimp.build_graph(*PACKAGES)
    imports = {m: set(graph.find_modules_directly_imported_by(m)) for m in graph.modules}
    assert len(imports) > 100
    assert circle(imports) == []


def test_a_circle_would_be_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= LONGEST_FILE
    assert [name for name, lines in functions(text) if lines > LONGEST_FUNCTION] == []


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Every function of a module with its length in lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1
