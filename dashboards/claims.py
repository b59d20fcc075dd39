"""What does a page claim, as data? Its words and the numbers behind them; and do other numbers still say so?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from dashboards.sweep import Sweep
from dashboards.verdict.sentences import headline
from dashboards.verdict.values import Measure, Verdicts

FORMAT = 1
"""Of the data, raised when a key changes its meaning."""
_CLOSE = 1e-6
"""Share of an effect or its interval that a repeated computation may differ by."""


def claims(
    sweep: Sweep,
    verdicts: Verdicts | None,
    *,
    refusal: str | None = None,
    version: str = "",
    created: datetime | None = None,
) -> dict[str, Any]:
    """Every word of a page with its numbers as JSON data; effects of a ratio are shares."""
    said: dict[str, Any] = {
        "format": FORMAT,
        "experiment": sweep.name,
        "metric": sweep.metric,
        "baseline": verdicts.baseline if verdicts else sweep.baseline,
        "margin": sweep.margin,
        "protocol": verdicts.protocol if verdicts else None,
        "diffsweep": version,
        "created": created.isoformat(timespec="seconds") if created else None,
        "headline": headline(verdicts) if verdicts else None,
        "refusal": None if verdicts else refusal,
        "words": [],
        "refused": {},
    }
    if verdicts is not None:
        said["words"] = [_of(*one) for one in _words(verdicts)]
        said["refused"] = {one.cell: one.reason for one in verdicts.refused}
    return said


def _words(verdicts: Verdicts) -> Iterator[tuple[str, str, str, str, Measure | None]]:
    """Name, what it is compared with, measure, word and numbers of all that has a word."""
    for compared in verdicts.comparisons:
        yield compared.cell, compared.baseline, "final", compared.word, compared.final
        for measure in compared.measures():
            if measure.name != "final":
                yield compared.cell, compared.baseline, measure.name, measure.word, measure
    for row in verdicts.rows:
        yield row.row.name, row.against.name, "final", row.word, row.final


def _of(cell: str, against: str, measure: str, word: str, found: Measure | None) -> dict[str, Any]:
    said: dict[str, Any] = {"cell": cell, "against": against, "measure": measure, "word": word}
    if found is None:
        return said | {"seeds": []}
    said |= {
        "seeds": list(found.seeds),
        "effect": _known(found.effect if found.seeds else None),
        "low": _known(found.interval.low),
        "high": _known(found.interval.high),
        "p": _known(found.p_adjusted),
        "ratio": found.ratio,
    }
    return said | ({"effects": list(found.effects)} if measure == "final" else {})


def differences(page: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of a page's claims other data no longer says, a line for each; empty where all stands.

    Both are `claims`. Seeds that came since are no difference as long as the words are the same.
    """
    if page["words"] and not now["words"]:
        return [f"nothing can be judged any more: {now['refusal']}"]
    lines = []
    if page["protocol"] != now["protocol"]:
        lines.append(f"protocol {page['protocol']} on the page, {now['protocol']} now")
    there = {_key(one): one for one in now["words"]}
    gone = set()
    for said in page["words"]:
        found = there.get(_key(said))
        if found is not None:
            lines += _differences(said, found)
        elif said["cell"] not in gone:
            gone.add(said["cell"])
            why = now["refused"].get(said["cell"])
            lines.append(f"{_name(said)} is gone" + (f": {why}" if why else ": it has no numbers"))
    return lines


def further_seeds(page: Mapping[str, Any], now: Mapping[str, Any]) -> list[int]:
    """Seeds that came since."""
    known = {seed for one in page["words"] for seed in one["seeds"]}
    return sorted({seed for one in now["words"] for seed in one["seeds"]} - known)


def _differences(said: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    name = _name(said)
    if said["word"] != found["word"]:
        yield f"{name} is {found['word']} now, {said['word']} on the page"
    if lost := sorted({*said["seeds"]} - {*found["seeds"]}):
        yield f"{name} has lost seed{'' if len(lost) == 1 else 's'} {', '.join(map(str, lost))}"
    room = _CLOSE * max(abs(_number(said.get(end))) for end in ("effect", "low", "high"))
    for seed, (then, now) in _by_seed(said, found).items():
        if abs(then - now) > max(room, _CLOSE * abs(then)):
            here, there = _shown(now, said), _shown(then, said)
            yield f"{name}: seed {seed} differs by {here} now, by {there} on the page"
    if said["seeds"] != found["seeds"]:
        return
    for what, called in (("effect", "difference"), ("low", "low end"), ("high", "high end")):
        before, after = said.get(what), found.get(what)
        if (before is None) != (after is None) or abs(_number(before) - _number(after)) > room:
            yield f"{name}: {called} {_shown(after, said)} now, {_shown(before, said)} on the page"
    before, after = said.get("p"), found.get("p")
    if (before is None) != (after is None) or abs(_number(before) - _number(after)) > _CLOSE:
        yield f"{name}: p {_plain(after)} now, {_plain(before)} on the page"


def _by_seed(said: Mapping[str, Any], found: Mapping[str, Any]) -> dict[int, tuple[float, float]]:
    """The effects of the seeds that both have."""
    before = dict(zip(said["seeds"], said.get("effects", ()), strict=False))
    after = dict(zip(found["seeds"], found.get("effects", ()), strict=False))
    return {seed: (before[seed], after[seed]) for seed in before if seed in after}


def _key(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return one["cell"], one["against"], one["measure"]


def _name(one: Mapping[str, Any]) -> str:
    what = "" if one["measure"] == "final" else f" in {one['measure']}"
    return f"`{one['cell']}` against `{one['against']}`{what}"


def _number(value: float | None) -> float:
    return 0.0 if value is None else value


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _shown(value: float | None, one: Mapping[str, Any]) -> str:
    """A share as a percentage."""
    if value is None or not one.get("ratio"):
        return _plain(value)
    return f"{100 * value:+.4g} %"
