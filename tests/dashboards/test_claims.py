"""A page's claims against other numbers: what changed is named, seeds that came since and rounding are not."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from typing import Any

import pytest

from dashboards.claims import claims, differences, further_seeds
from dashboards.page import render
from dashboards.sweep import Sweep
from tests.dashboards.synthetic import ended, judge, sweep

CELLS = {"uniform": 0.0, "under": 0.3, "equal": 0.0}


@pytest.fixture(scope="module")
def found() -> Sweep:
    return sweep(CELLS, seeds=8)


def said(found: Sweep) -> dict[str, Any]:
    return json.loads(json.dumps(claims(found, judge(found), version="1")))


def test_the_page_carries_its_claims(found: Sweep) -> None:
    html = render(found, judge(found))
    (text,) = re.findall(
        r'<script type="application/json" id="verdict-data">(.*?)</script>', html, re.S
    )
    page = json.loads(text)
    assert page["words"] == said(found)["words"]
    words = {(one["cell"], one["measure"]): one["word"] for one in page["words"]}
    assert words["under", "final"] == "WORSE"
    assert differences(page, said(found)) == []


def test_rounding_is_no_difference_and_a_change_is(found: Sweep) -> None:
    page = said(found)
    for one in page["words"]:
        one["effect"] = one["effect"] and one["effect"] * (1 + 1e-9)
    assert differences(page, said(found)) == []
    trials = found.trials.copy()
    row = (trials["cell"] == "under") & (trials["seed"] == 3)
    trials.loc[row, found.metric] *= 1.01
    lines = differences(page, said(dataclasses.replace(found, trials=trials)))
    assert any(line.startswith("`under` against `uniform`: seed 3 differs by ") for line in lines)
    assert any("`under` against `uniform`: difference +" in line for line in lines)
    assert not any("equal" in line and "seed" in line for line in lines)


def test_words_seeds_and_cells_that_are_gone_are_named(found: Sweep) -> None:
    page = said(found)
    finals = {cell: [10.0 + seed for seed in range(8)] for cell in CELLS}
    lines = differences(page, said(sweep(CELLS, seeds=8, finals=finals)))
    assert any(
        "`under` against `uniform` is " in line and "WORSE on the page" in line for line in lines
    )
    lines = differences(page, said(ended(found, "under", 2, "diverged")))
    assert "`under` against `uniform` has lost seed 2" in lines
    less = sweep({"uniform": 0.0, "equal": 0.0}, seeds=8)
    lines = differences(page, said(less))
    assert "`under` against `uniform` is gone: it has no numbers" in lines
    nothing = claims(found, None, refusal="two protocols")
    assert differences(page, nothing) == ["nothing can be judged any more: two protocols"]


def test_seeds_that_came_since_are_no_difference() -> None:
    now = said(sweep(CELLS, seeds=8))
    page = copy.deepcopy(now)
    for one in page["words"]:
        keep = len(one["seeds"]) - 2
        one["seeds"], one["effects"] = one["seeds"][:keep], one.get("effects", [])[:keep]
        one["effect"] = one["effect"] and 1.2 * one["effect"]
    assert differences(page, now) == []
    assert further_seeds(page, now) == [6, 7]
