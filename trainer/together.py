"""How do several trials share one device? Each in a thread, on a GPU with a stream of its own.

A small network leaves most of a GPU idle. Its recorded steps are one call of the host each, and those of several trials
run side by side on their streams. What a trial computes is what it computes alone, to the last bit: only the order in
which the device gets to it differs.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import torch

from trainer.leaving import Told
from trainer.report import Report

Name = TypeVar("Name")
Member = Callable[[Told], Iterator[Report]]
"""Trains a trial, such as `partial(train, ...)`, until it ends or is told to leave."""


class Ended:
    """That a member came to its end."""


Word = Report | Ended | Exception
"""What is told of a member; all but reports are its last."""


class Together(Generic[Name]):
    """Trials that train at the same time in this process; iterate over what they tell.

    An error of one is told as its last word, and the others go on. Leaving the `with` block tells all that still
    train to leave, and waits for them.
    """

    def __init__(
        self,
        members: Mapping[Name, Member],
        device: torch.device,
        leave: Told = lambda: False,
    ) -> None:
        """`leave` tells all of them, too."""
        self._device, self._told_from_outside = device, leave
        self._told: queue.SimpleQueue[tuple[Name, Word]] = queue.SimpleQueue()
        self._leave = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=(name, member), name=f"trial {name}", daemon=True
            )
            for name, member in members.items()
        ]

    def __enter__(self) -> Iterator[tuple[Name, Word]]:
        for thread in self._threads:
            thread.start()
        return self._heard()

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        for thread in self._threads:
            thread.join()

    def _heard(self) -> Iterator[tuple[Name, Word]]:
        at_work = len(self._threads)
        while at_work:
            name, told = self._told.get()
            at_work -= not isinstance(told, Report)
            yield name, told

    def _has_to_leave(self) -> bool:
        return self._leave.is_set() or self._told_from_outside()

    def _run(self, name: Name, member: Member) -> None:
        try:
            with on_stream(self._device):
                for report in member(self._has_to_leave):
                    self._told.put((name, report))
        except Exception as error:
            self._told.put((name, error))
        else:
            self._told.put((name, Ended()))


def on_stream(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """What this thread asks of a GPU goes to a stream of its own."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
