"""How is a trial trained with several seeds at once, from the command line?"""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from trainer.checkpoint import even
from trainer.distributed import best_device
from trainer.errors import EnvironmentProblem, UserError
from trainer.files import HeldError
from trainer.keeper import Due
from trainer.leaving import Left, Told
from trainer.loop import Stepwise, stepwise
from trainer.passes import OnOOM
from trainer.record import Record
from trainer.report import Report
from trainer.together import Together, Word
from trainer.trial import TrialSpec

_MOST_SEEDS = 64

Show = Callable[[Report, str], None]
"""Shows a report of a trial that is called so."""


def seeds(text: str) -> list[int]:
    """`0-3` and `0,1,2,3` are four."""
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            some = range(int(first), int(last if dash else first) + 1)
            if not some or some[-1] >= 2**63 or some[-1] - some[0] >= _MOST_SEEDS:
                raise ValueError
            found += some
        if len(found) > _MOST_SEEDS or len(set(found)) < len(found):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is no list of up to {_MOST_SEEDS} seeds: write 0-7, or 0,3,5"
        ) from None
    return found


def train_seeds(
    trials: dict[int, TrialSpec],
    where: dict[int, Path],
    cache: Path,
    device: str,
    on_oom: OnOOM,
    told: Told,
    show: Show,
    *,
    joint: bool,
) -> int:
    """Train each in its directory, step by step beside the others or as one program: the highest exit status."""

    due, at = Due(10.0, is_shared=True), None
    if joint:
        at = even(one for one in where.values() if Record(one).result() is None)

    def member(seed: int, leave: Told) -> Stepwise:
        record = Record(where[seed])
        with record.writer():
            record.refuse_another(trials[seed])
            if record.result() is None:
                yield from stepwise(
                    trials[seed],
                    where[seed],
                    cache=cache,
                    device=device,
                    on_oom=on_oom,
                    leave=leave,
                    due=due,
                    even_at=at,
                )

    status = 0
    members = {seed: functools.partial(member, seed) for seed in trials}
    together = Together(members, best_device(device), told, joint=joint, between=due.tick)
    says = joint
    with together as heard:
        for seed, word in heard:
            if says and (groups := together.shared()):
                says = False
                for line in _grouped(groups):
                    print(f"note: {line}", file=sys.stderr)
            status = max(status, _heard(seed, word, Record(where[seed]), show))
    return status


def _grouped(groups: dict[tuple[int, ...], str]) -> list[str]:
    """How many share a program, and why others do not."""
    alone = Counter(why for why in groups.values() if why)
    lines = [
        f"{len(seeds)} trials train as one program" for seeds, why in groups.items() if not why
    ]
    return [*lines, *(f"{count} of the trials step alone: {why}" for why, count in alone.items())]


def _heard(seed: int, word: Word, record: Record, show: Show) -> int:
    """Tell the person of one of several; its exit status so far."""
    if isinstance(word, Report):
        show(word, f"seed {seed:<4}")
        return 0
    if isinstance(word, Exception):
        if not isinstance(word, UserError | EnvironmentProblem | HeldError | Left | OSError):
            traceback.print_exception(word)
        kept = "; the same command continues" if isinstance(word, Left) else ""
        print(f"seed {seed}: {word}{kept}", file=sys.stderr)
        if isinstance(word, Left):
            return 128 + signal.SIGTERM
        return 2 if isinstance(word, UserError) else 3
    result = record.result()
    assert result is not None
    print(f"seed {seed:<4} {result.status}: {result.reason or record.directory}", flush=True)
    return 0 if result.status == "finished" else 1
