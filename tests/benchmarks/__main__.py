"""`make bench`: what the orchestration costs, and how the loop compares with a plain one.

Prints seconds and ratios of this run; the machine's noise is in the spread that stands beside them.
"""

import argparse
import sys

from tests.benchmarks import loop, overhead


def main() -> int:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=["loop", "overhead", []], default=[])
    names = parser.parse_args().names or ["loop", "overhead"]
    if "loop" in names:
        loop.main()
    if "overhead" in names:
        overhead.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
