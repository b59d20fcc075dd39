"""How do several trials train at the same time in one process? Step by step, side by side.

Those that are alike may share a program (`trainer.ensemble`). The others keep their own: on a GPU each has a stream, on
which its recorded steps run beside the others', and computes what it computes alone, to the last bit.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from typing import Generic, TypeVar

import torch

from trainer.ensemble import Ensemble, alike
from trainer.leaving import Told
from trainer.memory import ran_out
from trainer.report import Report
from trainer.sharing import refusal
from trainer.training import Training

Name = TypeVar("Name", bound=Hashable)
Steps = Generator[Training | Report, None, object]
Member = Callable[[Told], Steps]
"""Trains a trial, such as `partial(stepwise, ...)`, until it ends or is told to leave."""


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
        *,
        joint: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """`leave` tells all of them, too; `joint`: those that are alike share a program; `between` two steps of all."""
        self._device, self._told_from_outside, self._joint = device, leave, joint
        self._is_over, self._between = False, between
        self._asked_to_leave: set[Name] = set()
        self._members = {name: self._begun(name, member) for name, member in members.items()}
        self._due: dict[Name, Training] = {}
        """Members whose next step is due."""
        self._grouped: set[Name] = set()
        self._ensembles: dict[tuple[Name, ...], Ensemble] = {}
        self._streams: dict[Name, torch.cuda.Stream] = {}
        self._words = self._heard()

    def leave(self, name: Name) -> None:
        """Tell one to leave after its next step."""
        self._asked_to_leave.add(name)

    def shared(self) -> dict[tuple[Name, ...], str]:
        """Who steps together by now, and why not: members that share a program (""), and one alone with its reason."""
        found = dict.fromkeys(self._ensembles, "")
        together = {name for names in self._ensembles for name in names}
        for name, training in self._due.items():
            if name not in together:
                found[name,] = refusal(training.trial) or "no other is like it"
        return found

    def __enter__(self) -> Iterator[tuple[Name, Word]]:
        return self._words

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for _ in self._words:
            """Each keeps a checkpoint."""

    def _begun(self, name: Name, member: Member) -> Steps:
        def has_to_leave() -> bool:
            return self._is_over or name in self._asked_to_leave or self._told_from_outside()

        return member(has_to_leave)

    def _heard(self) -> Iterator[tuple[Name, Word]]:
        while self._members:
            self._between()
            for name in list(self._members):
                for word in self._advanced(name):
                    yield name, word
            if self._joint and self._grouped != set(self._due):
                self._regroup()
            self._take_steps()

    def _advanced(self, name: Name) -> Iterator[Word]:
        """What a member tells until its next step is due, or to its end."""
        if name in self._due:
            self._due[name].go_on()
        while True:
            told: Training | Report | Exception | None
            try:
                with self._on_stream(name):
                    told = next(self._members[name], None)
            except Exception as error:
                told = error
            if isinstance(told, Training):
                told.pause()  # what others do meanwhile is none of its time
                self._due[name] = told
                return
            if not isinstance(told, Report):  # before its last word: nobody may listen after it
                del self._members[name]
                self._due.pop(name, None)
            yield Ended() if told is None else told
            if not isinstance(told, Report):
                return

    def _take_steps(self) -> None:
        left = dict(self._due)
        for names, ensemble in self._ensembles.items():
            for name in names:
                del left[name]
            self._timed(names, ensemble.step)
        for name, training in left.items():
            self._timed((name,), training.attempt)

    def _timed(self, names: tuple[Name, ...], step: Callable[[], None]) -> None:
        """Each counts its part of the seconds."""
        began = time.perf_counter()
        with self._on_stream(names[0]):
            step()
            if self._device.type == "cuda" and any(self._due[one].at_loss_point for one in names):
                stream = torch.cuda.current_stream(self._device)
                stream.synchronize()  # or the first that asks would wait for all
        each = (time.perf_counter() - began) / len(names)
        for name in names:
            self._due[name].count(each)

    def _groups(self) -> list[tuple[Name, ...]]:
        by_kind: dict[Hashable, list[Name]] = defaultdict(list)
        for name, training in self._due.items():
            if refusal(training.trial) is None:
                by_kind[alike(training)].append(name)
        return [tuple(names) for names in by_kind.values() if len(names) > 1]

    def _regroup(self) -> None:
        before, groups = self._ensembles, self._groups()
        self._grouped, self._ensembles = set(self._due), {}
        if self._device.type == "cuda":  # what was begun on other streams is done
            torch.cuda.synchronize(self._device)
        for names, ensemble in before.items():
            if names not in groups:
                ensemble.dissolve()
        for names in groups:
            known = before.get(names) or self._made(names)
            if known is not None:
                self._ensembles[names] = known
        if self._device.type == "cuda":  # who shares a program shares its stream
            torch.cuda.synchronize(self._device)
            for names in self._ensembles:
                self._streams.update(dict.fromkeys(names, self._stream(names[0])))

    def _made(self, names: tuple[Name, ...]) -> Ensemble | None:
        """None where there is too little memory for it: they step side by side."""
        try:
            return Ensemble([self._due[name] for name in names])
        except Exception as error:
            if not ran_out(error):
                raise
            return None

    def _on_stream(self, name: Name) -> contextlib.AbstractContextManager[object]:
        """What is asked of a GPU there goes to the member's stream."""
        if self._device.type != "cuda":
            return contextlib.nullcontext()
        return torch.cuda.stream(self._stream(name))

    def _stream(self, name: Name) -> torch.cuda.Stream:
        if name not in self._streams:
            self._streams[name] = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return self._streams[name]
