"""Proves: a verdict needs nothing but plain values, and one function turns all samples into all decisions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dashboards.verdict.engine import decide
from dashboards.verdict.evidence import Evidence, Quantity, Trial
from dashboards.verdict.judging import judge
from dashboards.verdict.samples import Sample
from dashboards.verdict.statistics import sign_flip_p
from trainer.report import Status

QUANTITIES = {"eval/fid": Quantity("FID", lower_is_better=True)}
BASE = {seed: 4.0 + 0.1 * seed for seed in range(8)}


def sample(shift: float, seeds: int = 8, **more: tuple[int, int]) -> Sample:
    """A cell that is worse by `shift` on every seed, with a little noise."""
    base = {seed: BASE[seed] for seed in range(seeds)}
    cell = {seed: value + shift + 0.01 * seed for seed, value in base.items()}
    return Sample("eval/fid", True, base, cell, **more)


def test_each_measure_is_a_family_corrected_over_its_cells() -> None:
    decisions = decide(
        {
            "worse": {"final": sample(1.0), "area": sample(1.0)},
            "better": {"final": sample(-1.0)},
            "few": {"final": sample(1.0, seeds=3)},
        },
        margin=0.02,
    )
    assert list(decisions) == [
        ("worse", "final"),
        ("better", "final"),
        ("few", "final"),
        ("worse", "area"),
    ]
    words = {key: decision.word for key, decision in decisions.items()}
    assert words["worse", "final"] == words["worse", "area"] == "WORSE"
    assert words["better", "final"] == "BETTER"
    assert words["few", "final"] == "INCONCLUSIVE"
    final = decisions["worse", "final"]
    assert (final.p, final.p_holm, final.comparisons) == (2 / 256, 6 / 256, 3)
    assert decisions["worse", "area"].p_holm == 2 / 256
    assert final.more is None
    assert decisions["few", "final"].more is not None


def test_a_diverged_seed_counts_as_the_largest_difference() -> None:
    lost = sample(-1.0, diverged=(0, 2))
    assert lost.tested() == [*lost.differences(), 1.0, 1.0]
    decision = decide({"b": {"final": lost}}, margin=0.02)["b", "final"]
    assert decision.p == sign_flip_p(lost.tested())
    higher = Sample("eval/recall", False, lost.baseline, lost.cell, diverged=(1, 0))
    assert higher.tested()[-1] == 1.0


def test_plain_values_are_enough_for_a_verdict() -> None:
    trials = tuple(
        Trial(cell, seed, Status.FINISHED, images=1000, finals={"eval/fid": value * factor})
        for cell, factor in (("a", 1.0), ("b", 1.5))
        for seed, value in BASE.items()
    )
    verdicts = judge(Evidence(trials, ("a", "b"), "eval/fid", QUANTITIES, baseline="a"))
    (comparison,) = verdicts.comparisons
    assert (comparison.word, verdicts.kimg, comparison.area) == ("WORSE", 1.0, None)
    assert comparison.final is not None
    assert comparison.final.relative == pytest.approx(0.5)


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
    headline, title = done.stdout.splitlines()
    assert headline.startswith("`b` is WORSE than `a` in FID: +")
    assert title == "FID"
