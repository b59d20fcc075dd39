"""Proves: every verdict is said plainly, also of an experiment that is empty, small, broken or not done."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.evidence import Evidence
from dashboards.verdict.judging import judge
from dashboards.verdict.outlook import looks
from dashboards.verdict.plain import to_dict
from dashboards.verdict.sentences import comparison_sentence, headline, measure_sentence
from dashboards.verdict.wording import interval_text
from tests.dashboards.verdict.made import Outcome, base, evidence, only, rival

SIX, TWELVE = base(6), base(12)


def said(made: Evidence, **options: Any) -> str:
    """Headline, every cell's sentence, every measure's, and the guarantee."""
    verdicts = judge(made, **options)
    cells = [comparison_sentence(c) for c in verdicts.comparisons]
    measures = [measure_sentence(m) for c in verdicts.comparisons for m in c.measures()]
    return "\n".join([headline(verdicts), *cells, *measures, looks(verdicts.guarantee)])


EMPTY: list[Outcome] = [None] * 3
NOWHERE: dict[str, tuple[dict[str, list[Outcome]], str]] = {
    "empty": ({"a": EMPTY, "b": EMPTY}, "no trial reported eval/fid: none has begun"),
    "waiting": ({"a": ["waiting"], "b": ["waiting"]}, "none has begun"),
    "running": ({"a": ["running"], "b": ["waiting"]}, "of 2, 1 running and 1 waiting"),
    "all diverged": ({"a": ["diverged"] * 6, "b": ["diverged"] * 6}, "all 12 diverged"),
    "diverged and failed": ({"a": ["diverged"], "b": ["failed"]}, "of 2, 1 diverged and 1 failed"),
    "one cell": ({"a": [*SIX]}, "only the cell 'a' is there: nothing to compare it with"),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_where_nothing_can_be_judged_the_reason_is_said(case: str) -> None:
    cells, reason = NOWHERE[case]
    with pytest.raises(IncomparableError, match=reason):
        judge(evidence(cells))


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "one seed": (
        {"a": SIX[:1], "b": rival(SIX, 0.3)[:1]},
        [
            "INCONCLUSIVE with 1 paired seed: FID against `a` is +",
            "but one seed cannot reach p < .05 (6 are the fewest that can)",
            "no 95 % CI",
            "One pair decides nothing; 6 are the fewest that can, for any number of cells.",
        ],
    ),
    "three seeds": (
        {"a": SIX[:3], "b": rival(SIX, 0.3)[:3]},
        [
            "but 3 seeds cannot reach p < .05 (6 are the fewest that can)",
            "a sign-flip test of 3 cannot go below p = 0.25",
            "95 % t CI +",
            "is an exact 75 % interval.",
            "6 seeds in a new experiment would find a difference of ",
            " or more in 80 % of experiments.",
        ],
    ),
    "half finished": (
        {"a": SIX, "b": [*rival(SIX, 0.3)[:4], "running", None]},
        [
            "INCONCLUSIVE with 4 paired seeds",
            "`b` has not finished 1 of 6 seeds; `b` lacks 1 of 6 seeds",
            "4 of 6 pairs: seed 4 of `b` has not finished; seed 5 of `b` is missing.",
        ],
    ),
    "one diverged": (
        {"a": SIX, "b": ["diverged", *rival(SIX, -0.3)[1:]]},
        [
            "`b` diverged on 1 of 6 seeds",
            "5 of 6 pairs: seed 0 of `b` diverged.",
            "which flatters `b`",
            "The test does not",
            "% for `b` on 5 surviving seeds",
        ],
    ),
    "every seed diverged": (
        {"a": SIX, "b": ["diverged"] * 6},
        [
            "`b` is WORSE than `a` in FID: no surviving seed (p = 0.031);",
            "`b` diverged on 6 of 6 seeds.",
            "WORSE: final FID of `b` against `a` has no number: no surviving seed (p = 0.031).",
            "0 of 6 pairs: seeds 0, 1, 2, 3, 4 and 5 of `b` diverged.",
        ],
    ),
    "three seeds failed": (
        {"a": SIX[:3], "b": ["failed"] * 3},
        ["FID against `a` is without a number for `b`", "`b` failed on 3 of 3 seeds"],
    ),
    "never in both": (
        {"a": SIX, "b": rival(SIX, 0.3), "c": ["stopped"] * 6},
        [
            "`b` is WORSE than `a` in FID",
            "INCONCLUSIVE: no seed finished both in `c` and in `a`",
            "seeds 0, 1, 2, 3, 4 and 5 of `c` have not finished",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_small_and_broken_experiments_say_so(case: str) -> None:
    cells, expected = CASES[case]
    text = said(evidence(cells))
    for part in expected:
        assert part in text
    for nonsense in ("nan", "None", "0 surviving", "over 0 pairs", "p = 2.0", " n/a"):
        assert nonsense not in text


def test_a_headline_groups_the_words() -> None:
    cells = {"a": TWELVE, "fast": rival(TWELVE, -0.3), "slow": rival(TWELVE, 0.3)}
    cells |= {"alike": rival(TWELVE, 0.0, 0.004), "twin": rival(TWELVE, 0.0, 0.004, seed=5)}
    text = headline(judge(evidence(cells)))
    assert "`fast` is BETTER than `a` in FID: -" in text
    assert "`slow` is WORSE than `a` in FID: +" in text
    assert "`alike` and `twin` are the SAME as `a` in FID within 2 %, 12 pairs" in text
    assert text.count("12 pairs") == 3, "every part says of how many"


def test_a_difference_below_the_margin_is_the_same_and_says_so() -> None:
    found = only(evidence({"a": TWELVE, "b": rival(TWELVE, 0.005, 0.0005)}))
    assert found.word == "SAME"
    text = comparison_sentence(found)
    assert "The whole interval lies within the 2 % margin." in text
    assert "A difference is there, but too small to matter by that margin." in text


def test_a_margin_that_nobody_gave_is_asked_for() -> None:
    made = evidence({"a": SIX, "b": rival(SIX, 0.0, 0.01)}, metric="eval/kid")
    assert "SAME cannot be said: set `compare.own_margin`" in said(made)
    assert "%" not in interval_text(only(made).measures()[0]).removeprefix("95 % CI"), (
        "no ratios of numbers near zero"
    )


@pytest.mark.parametrize(
    ("seeds", "parts"),
    [
        (
            4,
            [
                "; the next look is at 6 seeds;",
                " alone) over 4 pairs",
                "Looks are planned at 6, 9 and 12 seeds, 0 of them done; the next word falls at 6 seeds",
                "`a` lacks 2 of 6 seeds",
                "12 seeds would find",
            ],
        ),
        (
            6,
            ["INCONCLUSIVE with 6 paired seeds", "; the next look is at 9 seeds", "1 of them done"],
        ),
        (12, ["3 of them done: at most 5 %", "24 seeds in a new experiment would find"]),
        (20, ["95 % anytime CI", "e-values", "at most 5.1 %", "`seeds: {first: ..., most: ...}`"]),
    ],
)
def test_looks_are_explained(seeds: int, parts: list[str]) -> None:
    whole = base(20)
    cells = {"a": whole[:seeds], "b": rival(whole, 0.0, 0.1)[:seeds]}
    text = said(evidence(cells, looks=(6, 9, 12), order=tuple(range(max(12, seeds)))))
    for part in parts:
        assert part in text
    if seeds >= 12:
        assert "probability" not in text, "nothing is promised that the rules do not give"


@pytest.mark.parametrize(
    ("devices", "unit", "three", "six"),
    [(6.0, "CPU", "36 CPU-hours", "72 CPU-hours"), (0.5, "GPU", "3.0 GPU-hours", "6.0 GPU-hours")],
)
def test_the_price_of_more_seeds_counts_all_that_a_trial_occupies(
    devices: float, unit: str, three: str, six: str
) -> None:
    """Two cells at one hour on 6 CPUs, or on half a GPU: three more seeds, or all six of a new experiment."""
    cells = {"a": SIX[:3], "b": rival(SIX, 0.3)[:3]}
    plan = {"looks": (6,), "order": tuple(range(6))}
    for cost, planned in ((f"{three} more", plan), (six, {})):
        made = evidence(cells, devices=dict.fromkeys(cells, devices), cost_unit=unit, **planned)
        trials = tuple(dataclasses.replace(trial, seconds=3600.0) for trial in made.trials)
        assert f"(about {cost})" in said(dataclasses.replace(made, trials=trials))
        assert "hours" not in said(made)


def test_a_decided_cell_names_the_seeds_that_decided() -> None:
    cells = {"a": TWELVE, "b": rival(TWELVE, 0.3), "c": rival(TWELVE, 0.0, 0.2)}
    text = said(evidence(cells, looks=(6, 12)))
    assert "`b` is WORSE than `a` in FID: +30.7 %" in text
    assert "p < 0.05), 6 pairs" in text, "0.0499... is not printed as 0.050"
    assert "with 12 paired seeds: FID against `a` is" in text


def test_a_target_that_is_missed_is_said_of_whom() -> None:
    made = evidence({"a": SIX, "b": rival(SIX, 0.3)}, curve=True)
    found = only(made, target=5.0).target
    assert found is not None
    text = measure_sentence(found)
    assert "kimg to FID (cheap protocol) 5.00 of `b` against `a`" in text
    assert f"Not reached by `b` alone on {found.lost_cell} seeds: that counts in the test" in text
    nobody = only(made, target=0.1).target
    assert nobody is not None
    assert "has no number: no surviving seed (p = 1.0). No seed tells the two apart." in (
        measure_sentence(nobody)
    )


def test_to_dict_is_json_without_loss_of_meaning() -> None:
    cells: dict[str, Any] = {"a": SIX, "b": ["diverged", *rival(SIX, 0.3)[1:]], "c": ["failed"] * 6}
    verdicts = judge(evidence(cells, curve=True))
    again = json.loads(json.dumps(to_dict(verdicts), allow_nan=False))
    assert again["sentence"] == headline(verdicts)
    assert again["looks"] == looks(verdicts.guarantee)
    one, gone = again["comparisons"]
    assert one["dropped"][0]["status"] == "diverged"
    assert one["final"]["sentence"] == measure_sentence(verdicts.comparisons[0].measures()[0])
    assert one["final"]["interval"]["n"] == 5
    assert one["lines"]["mean"]["targets"]
    assert gone["final"]["effect"] is None
    assert gone["decided_at"] == 6


ALONE = """
import sys

class Nothing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"torch", "pandas", "pydantic", "plotly", "jinja2", "sklearn", "ray", "mlflow"}:
            raise ImportError(f"{name} is not needed")

sys.meta_path.insert(0, Nothing())
import dashboards.verdict.judging, dashboards.verdict.sentences, dashboards.verdict.plain
from dashboards.verdict.evidence import Evidence, Quantity, Trial
from trainer.report import Status

trials = tuple(
    Trial(cell, seed, Status.FINISHED, images=1000, finals={"eval/fid": value + 0.01 * seed})
    for cell, value in (("a", 4.0), ("b", 5.0))
    for seed in range(8)
)
evidence = Evidence(trials, ("a", "b"), "eval/fid", {"eval/fid": Quantity("FID", True)}, "a")
verdicts = dashboards.verdict.judging.judge(evidence)
print(dashboards.verdict.sentences.headline(verdicts))
print(dashboards.verdict.plain.to_dict(verdicts)["quantity"]["title"])
"""


def test_a_verdict_is_made_and_said_where_nothing_but_numbers_can_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, title = done.stdout.splitlines()
    assert first.startswith("`b` is WORSE than `a` in FID: +")
    assert title == "FID"
