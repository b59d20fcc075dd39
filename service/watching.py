"""How far is a sweep that runs somewhere? What a page that is open in a browser asks, again and again.

It reads the records, like every other reader: the run may be in another terminal or on a cluster that
shares the home, and notices nothing. The report is made anew only when a page asks and a trial has said
something new.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from dashboards.text import duration, kimg, number, rate
from service import results
from service.agenda import Agenda
from service.progress import headline
from service.recorded import is_tuning, of_searches, of_work
from service.remote.driver import ask_to_stop
from service.remote.home import look_at
from service.remote.store import StoreError
from service.search.standing import sentence, tuning
from service.search.study import studies, tuned
from service.sole_driver import driver as driver_of
from service.stop_request import request_stop
from trainer.pulse import Pulse, pulse
from trainer.record import FAILURE, REPORTS, RESULT, STOPS

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.settings import Settings
    from service.standing import Standing

_LOOKS_EVERY_S = 1.0
"""Pages that ask sooner are told what the last one was."""
_FETCHES_EVERY_S = 10.0
"""How often a store is asked, where the home lies in one."""


class Watched:
    """One experiment in one home. Its methods may be called from any thread."""

    def __init__(self, experiment: Experiment, settings: Settings) -> None:
        self.name = experiment.name
        self._given, self._settings = experiment, settings
        self._looking, self._drawing = threading.Lock(), threading.Lock()
        self._known, self._agenda = experiment, Agenda(experiment, settings, attempt=None)
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._state: dict[str, Any] = {}
        self._looked, self._most = -_LOOKS_EVERY_S, 1
        self._page, self._drawn = "", ""
        self._fetched, self._away = time.monotonic(), ""

    def state(self) -> dict[str, Any]:
        """How far everything is, as JSON data; `version` changes when a trial has said something new."""
        with self._looking:
            if time.monotonic() - self._looked >= _LOOKS_EVERY_S:
                self._refresh()
                self._state = self._read()
                self._looked = time.monotonic()
            return self._state

    def page(self) -> str:
        """The report of what is there now."""
        version = self.state()["version"]
        with self._drawing:
            if version != self._drawn:
                sweep = results.collect(self._given, self._settings)
                judged = results.judged(self._given, self._settings, sweep)
                self._page = results.report_page(self._given, self._settings, judged)
                self._drawn = version
            return self._page

    def stop(self) -> bool:
        """Ask the run to stop; False where nobody is at work on it."""
        if driver_of(self._settings, self.name) is None:
            return False
        request_stop(self._settings.experiment(self.name))
        ask_to_stop(self._settings, self.name)
        return True

    def _fetch(self) -> None:
        """Where the home lies in a store: bring here what came there since."""
        if time.monotonic() - self._fetched >= _FETCHES_EVERY_S:
            self._away = ""
            try:
                look_at(self._given, self._settings)
            except StoreError as error:
                self._away = error.message
            self._fetched = time.monotonic()

    def _refresh(self) -> None:
        """Read again what has changed on disk since the last look."""
        self._fetch()
        if self._given.spec.search is not None:
            known = tuned(self._given, self._settings)
            if known.identities() != self._known.identities():
                self._known = known
                self._agenda, self._stamps = Agenda(known, self._settings, attempt=None), {}
        for trial in self._trials():
            stamp = self._stamp(trial.key)
            if stamp != self._stamps.get(trial.key):
                self._agenda.refresh(trial.key)
            self._stamps[trial.key] = stamp

    def _trials(self) -> list[PlannedTrial]:
        """Those whose settings are known."""
        return [trial for trial in self._known.trials if self._known.is_tuned(trial.cell)]

    def _stamp(self, key: str) -> tuple[int, ...]:
        """What tells by a look at the directory whether the record says more."""
        stamps = []
        for name in (REPORTS, RESULT, FAILURE, STOPS):
            try:
                found = os.stat(self._settings.trial(key) / name)
            except OSError:
                stamps.append(0)
            else:
                stamps += [found.st_mtime_ns, found.st_size]
        return tuple(stamps)

    def _read(self) -> dict[str, Any]:
        """The state, from what was read last."""
        known, now = self._known, time.time()
        searches = studies(self._given, self._settings) if self._given.spec.search else []
        found = (
            of_searches(searches, self._settings)
            if is_tuning(known)
            else of_work(self._agenda, self._settings, now, self._most)
        )
        self._most = max(self._most, found.running)
        running = []
        for trial in self._trials():
            beat = pulse(self._settings.trial(trial.key))
            if beat is not None and beat.is_fresh(now):
                reports = self._agenda.standing(trial.key).reports
                last = reports[-1].metrics if reports else {}
                running.append(_row(trial, beat, headline(last, known.shown_metrics)))
        driver = driver_of(self._settings, self.name)
        return {
            "name": self.name,
            "version": str(hash(tuple(self._stamps.items())) & 0xFFFFFFFFFFFF),
            "said": found.text(),
            "driver": f"run by {driver}" if driver else "nobody is running it now",
            "at_work": driver is not None,
            "percent": round(100 * sum(one.share for one in found.trials) / max(1, found.total)),
            "shares": _shares(found),
            "running": running,
            "cells": self._cells(),
            "notes": [*filter(None, [self._away]), *(sentence(tuning(one)) for one in searches)],
        }

    def _cells(self) -> list[dict[str, str]]:
        """How far the evidence on each compared cell is."""
        states, base = self._agenda.states(), self._known.baseline
        return [{"cell": cell, "text": one.text()} for cell, one in states.items() if cell != base]


def _row(trial: PlannedTrial, beat: Pulse, last: str) -> dict[str, Any]:
    """A trial at work."""
    speed, done, total = beat.img_per_s, beat.images / 1000, beat.total / 1000
    left = duration((beat.total - beat.images) / speed) if speed > 0 else ""
    return {
        "cell": trial.cell,
        "seed": trial.seed,
        "kimg": done,
        "total_kimg": total,
        "kimg_text": f"{kimg(done)} / {kimg(total)}",
        "img_per_s": rate(speed) if speed > 0 else "",
        "loss": "" if beat.loss is None else number(beat.loss, 4),
        "left": "" if beat.measures else left,
        "text": f"measuring; {last}".rstrip("; ") if beat.measures else last,
    }


def _shares(found: Standing) -> dict[str, float]:
    """How much of all trials is done, how much of those begun is behind them, and how many failed."""
    total = max(1, found.total)
    begun = [one.share for one in found.trials if not one.status.is_over]
    return {
        "done": found.done / total,
        "begun": sum(begun) / total,
        "failed": found.failed / total,
    }
