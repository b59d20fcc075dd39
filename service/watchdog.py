"""Does a trial that is at work still give signs of life? By its pulse and its messages, against its own pace.

Time is that of this process and counts from the last change that was seen, so neither jumps of clocks nor clocks of
other machines matter; while this process itself stood still, nobody was watched and nobody is blamed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dashboards.text import duration
from trainer.pulse import Pulse, pulse

Phase = Literal["starting", "training", "measuring", "ending", "unseen"]
"""What it did when it was last heard of: `ending` is the last evaluation, which is larger than those on the way;
`unseen` is one whose pulse cannot be read here, so that its reports alone are heard."""

UNUSUAL = 20.0
"""So many times its longest silence so far in the same phase is worth a line."""
HOPELESS = 5.0
"""So many times longer still, and it is replaced."""
_UNKNOWN: Mapping[Phase, float] = {
    "starting": 10.0,
    "training": 2.0,
    "measuring": 60.0,
    "ending": 60.0,
    "unseen": 60.0,
}
"""How many times the shortest silence that counts, while nobody was seen through that phase."""
_EVERY_S, _STOOD_STILL_S = 1.0, 30.0
"""How often it looks; a longer time between two looks says that this process was stopped."""


@dataclass
class _Watched:
    """One trial since its process started."""

    name: str
    directory: Path
    beat: Pulse | None
    since: float
    """When there was a sign of life, on this process's own clock."""
    at: float
    """The same in Unix time, to be told."""
    process: str
    phase: Phase = "starting"
    is_told: bool = False
    is_replaced: bool = False
    longest: dict[Phase, float] = field(default_factory=dict)


class Watchdog:
    """Tells of trials that fell silent, and names those that should be replaced."""

    def __init__(
        self,
        note: Callable[[str], None],
        shortest_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`shortest_s` of silence is never worth a word; 0 turns it off."""
        self._note, self._shortest_s, self._clock = note, shortest_s, clock
        self._watched: dict[str, _Watched] = {}
        self._longest: dict[Phase, float] = {}
        self._looked = clock()

    def started(self, key: str, name: str, directory: Path, process: str = "") -> None:
        """A trial got a process, which others of that name share; whatever lies in its directory is from before."""
        now, process = self._clock(), process or key
        self._watched[key] = _Watched(name, directory, pulse(directory), now, time.time(), process)

    def heard(self, key: str, measuring_s: float | None = None) -> None:
        """It sent a message; a report says how long its evaluation took."""
        watched = self._watched.get(key)
        if watched is None:
            return
        self._lives(watched, self._clock())
        watched.beat = pulse(watched.directory)  # which still says that it measures
        watched.phase = "unseen" if watched.beat is None else "training"
        if measuring_s is not None and watched.phase == "training":
            self._learn(watched, "measuring", measuring_s)

    def ended(self, key: str) -> None:
        """It gave its process back."""
        self._watched.pop(key, None)

    def look(self) -> list[str]:
        """Keys of trials whose process should be replaced now; to be called often."""
        now = self._clock()
        if not self._shortest_s or now - self._looked < _EVERY_S:
            return []
        stood_still = now - self._looked
        self._looked = now
        if stood_still > _STOOD_STILL_S:
            for watched in self._watched.values():
                watched.since += stood_still
        for watched in self._watched.values():
            if (beat := pulse(watched.directory)) != watched.beat:
                self._lives(watched, now)
                watched.beat, watched.phase = beat, _phase(beat)
        at_work: dict[str, str] = {}
        """Of each process the trial that may be silent longest: the others wait for it."""
        for key, watched in self._watched.items():
            known = at_work.get(watched.process)
            if known is None or self._limit(watched) > self._limit(self._watched[known]):
                at_work[watched.process] = key
        return [key for key in at_work.values() if self._is_hopeless(self._watched[key], now)]

    def _is_hopeless(self, watched: _Watched, now: float) -> bool:
        silent, limit = now - watched.since, self._limit(watched)
        if silent > limit and not watched.is_told:
            watched.is_told = True
            since = time.strftime("%H:%M:%S", time.localtime(watched.at))
            lasts = duration(HOPELESS * limit)
            self._note(
                f"{watched.name}: no sign of life since {since}; its process is replaced if that lasts {lasts}"
            )
        if silent > HOPELESS * limit and not watched.is_replaced:
            watched.is_replaced = True
            lasted = duration(silent)
            self._note(f"{watched.name}: no sign of life for {lasted}: its process is replaced")
            return True
        return False

    def _lives(self, watched: _Watched, now: float) -> None:
        """There is a sign of life; a silence that ended by itself was none to worry about.

        Of those that share a process one does something while the others wait: its sign is all of theirs.
        """
        silent = now - watched.since
        self._learn(watched, watched.phase, silent)
        if watched.is_told:
            self._note(f"{watched.name}: goes on after {duration(silent)} of silence")
        for one in self._watched.values():
            if one.process == watched.process:
                one.since, one.at = now, time.time()
                one.is_told = one.is_replaced = False

    def _learn(self, watched: _Watched, phase: Phase, seconds: float) -> None:
        watched.longest[phase] = max(seconds, watched.longest.get(phase, 0.0))
        self._longest[phase] = max(seconds, self._longest.get(phase, 0.0))

    def _limit(self, watched: _Watched) -> float:
        """Seconds of silence that are worth a line."""
        phase = watched.phase
        longest = watched.longest.get(phase, self._longest.get(phase))
        unknown = _UNKNOWN[phase] * self._shortest_s
        if longest is None:
            return unknown
        is_varied = phase in (
            "starting",
            "unseen",
        )  # another cell compiles, another report is the last
        least = unknown if is_varied else self._shortest_s
        return max(least, UNUSUAL * longest)


def _phase(beat: Pulse | None) -> Phase:
    """What a trial does now."""
    if beat is None:
        return "unseen"
    if not beat.measures:
        return "training"
    return "ending" if beat.images >= beat.total else "measuring"
