"""`make bench`: what the orchestration costs, and how the loop compares with a plain one.

Prints seconds and ratios of this run; the machine's noise is in the spread that stands beside them.
"""

import argparse
import sys

from tests.benchmarks import (
    delivery,
    loop,
    objective,
    overhead,
    page,
    price,
    scale,
    startup,
    streaming,
)

BENCHMARKS = {
    "loop": loop.main,
    "objective": objective.main,
    "overhead": overhead.main,
    "price": price.main,
    "startup": startup.main,
    "page": page.main,
    "streaming": streaming.main,
    "delivery": delivery.main,
    "scale": scale.main,
}
LONG = {"delivery", "scale"}
"""A quarter of an hour each: they run where they are named."""


def main() -> int:
    """Run the benchmarks named on the command line, or all that are not long."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or [name for name in BENCHMARKS if name not in LONG]
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(
            f"unknown benchmark {', '.join(sorted(unknown))}: choose from {', '.join(BENCHMARKS)}"
        )
    for name in names:
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
