"""`make bench`: ours beside the named peers, row by row, and what the orchestration costs.

Prints seconds and ratios of this run; the machine's noise is in the spread that stands beside them.
"""

import argparse
import importlib
import sys

from tests.benchmarks import page_of_results

BENCHMARKS: dict[str, int | None] = {
    "host": 1,
    "loop": 2,
    "image_input": 3,
    "sampling": 4,
    "inception_features": 5,
    "frechet": 6,
    "evaluation_share": 7,
    "orchestration": 8,
    "fewer_images": 9,
    "paired": 10,
    "ensemble": 11,
    "comparing": 12,
    "objective": None,
    "compiled": None,
    "price": None,
    "startup": None,
    "page": None,
    "streaming": None,
    "delivery": None,
    "scale": None,
    "growth": None,
    "gpu": None,
}
"""Module of this package to its row of the scoreboard, if it is one."""
NAMED = {"delivery", "scale", "growth", "gpu"}
"""They run where they are named: a quarter of an hour each, or a GPU."""


def main() -> int:
    """Run the benchmarks named on the command line, or all that are not to be named."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    said = ", ".join(f"{name} ({row})" if row else name for name, row in BENCHMARKS.items())
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"name or number, of {said}")
    parser.add_argument("--write", action="store_true", help="write BENCHMARKS.md, too")
    asked = parser.parse_args()
    by_number = {str(row): name for name, row in BENCHMARKS.items() if row is not None}
    names = [by_number.get(name, name) for name in asked.names]
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}: choose from {said}")
    for name in names or [name for name in BENCHMARKS if name not in NAMED]:
        run(name, asked.write)
    return 0


def run(name: str, write: bool) -> None:
    """Print one; `write` its section of the page."""
    module = importlib.import_module(f"tests.benchmarks.{name}")
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    before = page_of_results.load()
    module.main(report)
    if write:
        title = (module.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")
        command = f"python -m tests.benchmarks {name}"
        written = page_of_results.section(name, title, before, command, lines)
        file = page_of_results.FILE
        text = file.read_text() if file.exists() else ""
        file.write_text(page_of_results.put(text, name, written, list(BENCHMARKS)))


if __name__ == "__main__":
    sys.exit(main())
