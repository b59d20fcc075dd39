"""Do the runs still say what a page says? Its claims, read from the file, against the same question asked again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.claims import FORMAT, claims, differences, further_seeds
from service import results
from trainer.errors import UserError

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings

_DATA = "verdict-data"
"""Id of the element with the page's claims."""


@dataclass(frozen=True)
class Check:
    """What became of a page's claims."""

    differences: list[str]
    """What no longer holds, a line for each."""
    summary: str
    """One line."""

    @property
    def holds(self) -> bool:
        """Whether every claim stands."""
        return not self.differences


def read_claims(file: Path) -> dict[str, Any]:
    """The claims that a report carries; UserError where the file is none."""
    try:
        text = file.read_text()
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; name a report.html") from None
    reader = _Reader()
    reader.feed(text)
    try:
        said = json.loads(reader.data)
        known = said["format"]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{file} is no report that can be checked: it has no claims in it;"
            " `diffsweep report EXPERIMENT` writes one"
        ) from None
    if known != FORMAT:
        raise UserError(
            f"{file} is a report of another version of diffsweep ({said.get('diffsweep') or 'unknown'}):"
            " check it with that one, or write it again"
        )
    return dict(said)


def check(said: dict[str, Any], experiment: Experiment, settings: Settings) -> Check:
    """Judge the experiment anew, by the page's metric and against its baseline, and compare."""
    version = results.versions().get("diffsweep", "")
    if not said["words"]:
        return Check([], f"{said['experiment']}: the page claims nothing ({said['refusal']})")
    asked = {name: said[name] for name in ("metric", "baseline", "margin")}
    sweep = results.collect(experiment, settings, **asked, whole=False)
    judged = results.judged(experiment, settings, sweep)
    now = claims(sweep, judged.verdicts, refusal=judged.refusal, version=version)
    found = differences(said, now)
    since = further_seeds(said, now)
    more = f"; {len(since)} seeds came since" if since else ""
    if not found:
        words = sum(one["word"] != "INCONCLUSIVE" for one in said["words"])
        stands = (
            f"all {words} claims stand" if words else "nothing was decided, and the numbers stand"
        )
        return Check([], f"{said['experiment']}: {stands}{more}")
    other = (
        "" if said["diffsweep"] == version else f", written by {said['diffsweep']}, now {version}"
    )
    count = f"{len(found)} difference{'' if len(found) == 1 else 's'}"
    return Check(
        found, f"{said['experiment']}: {count} to the page of {said['created']}{other}{more}"
    )


class _Reader(HTMLParser):
    """The text of one script element."""

    def __init__(self) -> None:
        super().__init__()
        self.data = ""
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """It begins."""
        self._is_inside = tag == "script" and ("id", _DATA) in attrs

    def handle_endtag(self, tag: str) -> None:
        """It ends."""
        self._is_inside = False

    def handle_data(self, data: str) -> None:
        """Part of it."""
        if self._is_inside:
            self.data += data
