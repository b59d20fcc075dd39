"""The certificate: rates at which whole reports claim what is not so, with standard errors.

make honesty                              # everything, most of an hour on a quiet core
python -m tests.honesty --experiments 200 # coarser
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from tests.honesty.rows import Row, rows


def main() -> int:
    """Print every row; the exit code says whether all hold within three standard errors."""
    parser = argparse.ArgumentParser(prog="python -m tests.honesty")
    parser.add_argument("--experiments", type=int, default=1000, help="simulated per row")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    wanted = parser.parse_args()
    begun, holds, heading = time.monotonic(), True, ""
    every = list(rows(wanted.experiments))
    with multiprocessing.get_context("spawn").Pool(wanted.jobs) as pool:
        for row, (line, is_good) in zip(every, pool.imap(Row.run, every), strict=True):
            if row.part.heading != heading:
                print(heading := row.part.heading, flush=True)
            print(line, flush=True)
            holds &= is_good
    print(f"{'holds' if holds else 'DOES NOT HOLD'}; {time.monotonic() - begun:.0f} s")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
