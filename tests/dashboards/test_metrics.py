"""Metrics have the trainer's names, directions and units, whatever features and protocol they are measured with."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar

import pytest

from dashboards import metrics
from dashboards.charts.comparison import speed_up
from dashboards.charts.curves import convergence
from dashboards.page import render
from dashboards.verdict.comparable import IncomparableError, quantity
from dashboards.verdict.sentences import headline
from service.commands.compare import print_comparison
from service.results import Judged
from tests.dashboards.synthetic import judge, sweep
from trainer.evaluation.metric import KINDS


def test_titles_tell_the_protocols_apart() -> None:
    assert metrics.title("eval/fid") == "FID"
    assert metrics.title("rung/fid") == "FID (cheap protocol)"
    assert metrics.title("eval/recall") == "recall"
    assert metrics.title("eval/kid-inception") == "KID", "the KID of papers"
    assert metrics.title("train/loss") == "training loss"


def test_only_the_inception_distance_goes_by_its_plain_name() -> None:
    assert metrics.title("eval/fid", "inception") == "FID"
    assert metrics.title("eval/fid", "classifier") == "FID (classifier)"
    assert metrics.title("rung/fid", "pixels") == "FID (pixels, cheap protocol)"
    assert metrics.title("eval/fid-pixels", "inception") == "FID (pixels)"
    assert metrics.title("eval/fid-inception", "classifier") == "FID"
    assert metrics.title("eval/mind", "dinov2") == "MIND (dinov2)"


@pytest.mark.parametrize("kind", ["classifier", "inception"])
def test_the_page_and_the_terminal_name_the_space(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sweep()
    specs = {c: {**s, "evaluation": {"features": {"kind": kind}}} for c, s in made.specs.items()}
    found = replace(made, specs=specs)
    verdicts, said = judge(found), "FID" if kind == "inception" else "FID (classifier)"
    page = render(found, verdicts)
    assert f"final {said}</th>" in page
    assert headline(verdicts).count("FID") == headline(verdicts).count(said)
    print_comparison(Judged(found, verdicts, None))
    assert said in capsys.readouterr().out
    if kind == "classifier":
        named = [f"FID {note}" for note in ("(classifier)", "(classifier, cheap protocol)")]
        words = re.sub(r'<script type="application/gzip".*?</script>', "", page)
        assert words.count("FID") == sum(words.count(one) for one in named)


def test_directions_are_the_trainers() -> None:
    for name, member in KINDS.items():
        for metric in (f"eval/{name}", f"rung/{name}", f"eval/{name}-pixels"):
            evidence = sweep(metric=metric).evidence
            assert quantity(evidence, metric).lower_is_better is member.lower_is_better
    measured = ", ".join(f"eval/{name}" for name in KINDS)
    for unmeasured in ("eval/ppl", "eval/sharpness"):
        with pytest.raises(IncomparableError, match=f"these can: {measured}$"):
            quantity(sweep().evidence, unmeasured)
    assert metrics.quantity("train/loss") is None
    assert metrics.quantity("fid") is None


def test_a_unit_stands_where_numbers_are_headed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class InBits(KINDS["fid"]):  # type: ignore[misc]
        title: ClassVar[str] = "NLL"
        unit: ClassVar[str] = "bits"

    assert metrics.heading("eval/fid") == "FID", "it has none"
    monkeypatch.setitem(KINDS, "fid", InBits)
    found = sweep()
    verdicts = judge(found)
    assert metrics.heading("eval/fid") == "NLL in bits"
    in_bits = "NLL (classifier, cheap protocol) in bits"
    assert convergence(found).layout.yaxis.title.text == in_bits
    assert in_bits in speed_up(found, verdicts).layout.xaxis.title.text
    assert "final NLL (classifier) in bits</th>" in render(found, verdicts)
    print_comparison(Judged(found, verdicts, None))
    assert "NLL (classifier) in bits" in capsys.readouterr().out
