"""What was computed of specs before? Passports, twins and fits are functions of specs alone, so an answer is kept.

A command that finds all its answers needs no torch, which takes seconds to import. They are kept under the specs'
digests and the state of the code that gave them, so an edited formula is asked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import trainer
from trainer.diffusion.process import Diffusion
from trainer.spec import Spec

_MOST = 2000
"""Files that are kept: some hundred experiments' worth, of a few kilobytes each."""


class Answers:
    """`home/cache/answers`: one small file for each question, the newest few thousand."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cache" / "answers"

    def ask(self, question: str, of: Sequence[Spec | str], compute: Callable[[], Any]) -> Any:
        """The kept answer, else what `compute` gives: plain JSON data, lists for tuples. What it raises is not kept."""
        parts = [part.digest() if isinstance(part, Spec) else part for part in of]
        known = json.dumps([question, parts, _code()])
        file = self._folder / f"{question}-{hashlib.sha256(known.encode()).hexdigest()[:20]}.json"
        with contextlib.suppress(OSError, ValueError):
            return json.loads(file.read_bytes())
        text = json.dumps(compute())
        with contextlib.suppress(OSError):  # a home that cannot be written: asked again next time
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f".{file.name}.{os.getpid()}")
            partial.write_text(text)
            partial.replace(file)
            self._prune()
        return json.loads(text)

    def _prune(self) -> None:
        """Where there are too many, drop the older half: edited code leaves behind what nobody asks again."""
        if len(os.listdir(self._folder)) <= _MOST:
            return
        with os.scandir(self._folder) as found:
            by_age = sorted((entry.stat().st_mtime_ns, entry.path) for entry in found)
        for _, path in by_age[: -_MOST // 2]:
            with contextlib.suppress(FileNotFoundError):  # another process was here, too
                os.unlink(path)

    def passport(self, diffusion: Diffusion) -> dict[str, Any]:
        """The objective's passport as plain data."""

        def card() -> dict[str, Any]:
            from trainer.diffusion.passport import passport

            return passport(diffusion).to_dict()

        return self.ask("passport", [diffusion], _alone(card))

    def distance(self, one: Diffusion, other: Diffusion) -> float:
        """Total variation between two objectives."""

        def between() -> float:
            from trainer.diffusion.passport import total_variation

            return total_variation(one, other)

        return float(self.ask("distance", [one, other], _alone(between)))

    def distances(self, cells: Mapping[str, Diffusion]) -> dict[str, list[float]]:
        """Total variation between all objectives, in the order of the cells."""

        def between() -> list[list[float]]:
            from trainer.diffusion.passport import distances

            return distances(list(cells.values()))

        return dict(
            zip(cells, self.ask("distances", list(cells.values()), _alone(between)), strict=True)
        )

    def findings(self, cells: Mapping[str, Diffusion]) -> list[str]:
        """What a person should read of these objectives."""

        def lines() -> list[str]:
            from trainer.diffusion.passport import findings

            return findings(dict(cells))

        of = [part for name, cell in cells.items() for part in (name, cell)]
        return list(self.ask("objectives", of, _alone(lines)))


def _alone(compute: Callable[[], Any]) -> Callable[[], Any]:
    """In one thread: several would wait for each other longer than they work, on 2,001 numbers at a time."""

    def computed() -> Any:
        from trainer.lazily import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return compute()
        finally:
            torch.set_num_threads(before)

    return computed


@cache
def _code() -> str:
    """Sizes and times of the files that compute: the trainer's own, and torch's first."""
    files = sorted(Path(*trainer.__path__).rglob("*.py"))
    found = importlib.util.find_spec("torch")
    files += [Path(found.origin)] if found is not None and found.origin else []
    states = [(str(file), (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]
