"""How are many pictures worked on at once, and who sees how far it is? Threads, for Pillow frees the lock to decode."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from trainer.machine import own_cpus

T = TypeVar("T")

PATIENCE_S = 48 * 3600.0
"""How long to wait for another process that reads or decodes the same pictures: a million photographs take hours."""
_MOST_THREADS = 16
_CHUNK = 16
"""Pictures of one task: small ones are decoded faster than tasks are handed over."""
_QUIET_S, _LINE_S = 1.0, 30.0
"""How long nothing is said, and how often a line is where there is no terminal."""


def in_parallel(make: Callable[[int], T], count: int, label: str) -> Iterator[T]:
    """make(0), make(1), ... in order, some ahead in threads; progress on stderr if it takes longer than a second."""
    threads = min(_MOST_THREADS, own_cpus())

    def chunk(first: int) -> list[T]:
        return [make(i) for i in range(first, min(first + _CHUNK, count))]

    waiting: deque[Future[list[T]]] = deque()
    firsts = iter(range(0, count, _CHUNK))
    with _progress(label, count) as advance, ThreadPoolExecutor(threads) as pool:
        try:
            for first in firsts:
                waiting.append(pool.submit(chunk, first))
                if len(waiting) >= 4 * threads:
                    advance(len(done := waiting.popleft().result()))
                    yield from done
            while waiting:
                advance(len(done := waiting.popleft().result()))
                yield from done
        finally:
            for task in waiting:
                task.cancel()


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line now and then in a log; nothing for what takes a moment."""
    if sys.stderr.isatty():
        with _bar(label, total) as draw:
            yield draw
        return
    done, due = 0, time.monotonic() + _QUIET_S

    def advance(count: int) -> None:
        nonlocal done, due
        done += count
        if time.monotonic() > due:
            print(f"{label}: {done:,} of {total:,}", file=sys.stderr, flush=True)
            due = time.monotonic() + _LINE_S

    yield advance


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=False)
    task, started, begun = bar.add_task(label, total=total), False, time.monotonic()

    def advance(count: int) -> None:
        nonlocal started
        if not started and time.monotonic() > begun + _QUIET_S:
            bar.start()
            started = True
        bar.update(task, advance=count)

    try:
        yield advance
    finally:
        if started:
            bar.stop()
