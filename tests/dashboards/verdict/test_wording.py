"""Proves: numbers are written so that they fit one another, and p says of how many seeds it is."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from dashboards.verdict.judging import judge
from dashboards.verdict.sentences import headline, measure_sentence
from dashboards.verdict.values import Measure
from dashboards.verdict.wording import is_clear_alone, p_text, size
from tests.dashboards.verdict.made import base, evidence, only, rival

TWELVE = base(12)
CLEAR = "Alone its interval leaves out no difference"


def final(cells: dict[str, list[float]], **options: object) -> Measure:
    found = only(evidence(cells, **options)).final  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_two_numbers_beside_a_ratio_have_that_ratio() -> None:
    """Of arithmetic means one would be 2.5 and 2.5 here, beside -36 %."""
    steep = [1.0, 4.0, 1.0, 4.0, 1.0, 4.0]
    flat = [2.5] * 6
    text = measure_sentence(final({"a": flat, "b": steep}))
    assert "is 2.00 vs 2.50, -20.0 % (" in text
    kid = evidence({"a": flat, "b": steep}, metric="eval/kid")
    own = only(kid).final
    assert own is not None
    assert "is 2.50 vs 2.50, " in measure_sentence(own), "no ratio, no geometric mean"


@pytest.mark.parametrize(
    ("factor", "written"), [(0.5, "-50.0 %"), (9.9, "+890 %"), (10.5, "10.5x"), (242.0, "242x")]
)
def test_ratios_of_ten_and_more_are_no_percentages(factor: float, written: str) -> None:
    found = final({"a": TWELVE, "b": rival(TWELVE, factor - 1, 0.0)})
    assert size(found) == written
    assert written in headline(judge(evidence({"a": TWELVE, "b": rival(TWELVE, factor - 1, 0.0)})))


def test_the_ends_of_a_span_share_a_unit_only_if_they_have_one() -> None:
    wide = final({"a": TWELVE, "b": rival(TWELVE, 9.0, 0.2)})
    assert re.search(r"95 % CI \+\d+ % to \d+\.?\d*x", measure_sentence(wide))
    narrow = final({"a": TWELVE, "b": rival(TWELVE, 0.3, 0.1)})
    assert re.search(r"95 % CI \+\d+\.\d to \+\d+\.\d %", measure_sentence(narrow))


def test_between_looks_p_says_of_how_many_seeds_it_is() -> None:
    cells = {"a": TWELVE, "b": rival(TWELVE, 0.05, 0.1)}
    plan = {"looks": (6, 9, 12), "order": tuple(range(12))}

    def text(seeds: int) -> str:
        return p_text(final({cell: own[:seeds] for cell, own in cells.items()}, **plan))

    assert text(4).endswith(" alone")
    assert "seeds" not in text(6)
    assert text(7) == text(8) == f"{text(6)} at 6 seeds"
    assert text(9) != f"{text(6)} at 6 seeds"


def test_an_interval_that_alone_leaves_out_no_difference_is_explained() -> None:
    """A reader sees it and INCONCLUSIVE side by side: why that is has to be said."""
    rng = np.random.default_rng(2)
    shift = 0.07
    cells = {"a": TWELVE} | {
        f"c{k}": [v * math.exp(rng.normal(shift if k == 0 else 0.0, 0.1)) for v in TWELVE]
        for k in range(8)
    }
    measures = [c.final for c in judge(evidence(cells)).comparisons if c.final is not None]
    clear = [m for m in measures if is_clear_alone(m)]
    assert clear
    for measure in measures:
        low, high = measure.interval.low, measure.interval.high
        assert low is not None
        assert high is not None
        assert (measure in clear) == (measure.word == "INCONCLUSIVE" and not low <= 0 <= high)
        assert (CLEAR in measure_sentence(measure)) == (measure in clear)
    few = final({"a": TWELVE[:5], "b": rival(TWELVE, 0.3)[:5]})
    assert is_clear_alone(few)
    assert CLEAR not in measure_sentence(few), "five cannot decide, and that is what is said"
