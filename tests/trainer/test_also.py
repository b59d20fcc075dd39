"""Proves that further protocols are measured once, on the finished weights, as trainings of their own would be."""

import math
from pathlib import Path
from typing import Any

import pytest

from dashboards.further import further
from dashboards.metrics import quantity
from dashboards.verdict.evidence import Further
from service.experiment.reported import metrics
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.protocol import Evaluation
from trainer.loop import train
from trainer.record import Record
from trainer.report import Result
from trainer.trial import TrialSpec

ALSO = [
    {"name": "short", "steps": 3},
    {"name": "ddim_few", "solver": {"kind": "ddim"}, "images": 64},
]


def run(toy: dict[str, Any], directory: Path) -> Result:
    spec = TrialSpec.model_validate(toy)
    list(train(spec, directory, cache=directory.parent / "cache", device="cpu"))
    result = Record(directory).result()
    assert result is not None
    return result


def test_they_equal_a_training_with_that_protocol(toy: dict[str, Any], tmp_path: Path) -> None:
    """Number by number and id by id; the reported one stays as it was."""
    plain = run(toy, tmp_path / "plain")
    toy["evaluation"]["also"] = ALSO
    more = run(toy, tmp_path / "more")
    assert more.metrics["eval/fid"] == plain.metrics["eval/fid"]
    del toy["evaluation"]["also"]
    full = dict(toy["evaluation"]["full"])
    for name, changed in (
        ("short", {"steps": 3}),
        ("ddim_few", {"solver": {"kind": "ddim"}, "images": 64}),
    ):
        toy["evaluation"]["full"] = {**full, **changed}
        own = run(toy, tmp_path / name)
        assert more.metrics[f"eval/fid.{name}"] == own.metrics["eval/fid"]
        assert more.protocol[f"eval/fid.{name}"] == own.protocol["eval/fid"]
        assert more.draws[f"eval/fid.{name}"] == own.draws["eval/fid"]
    reports = Record(tmp_path / "more").reports()
    assert [any("." in name for name in r.metrics) for r in reports] == [False] * 3 + [True]


def test_without_any_a_trial_keeps_its_key(toy: dict[str, Any]) -> None:
    plain = TrialSpec.model_validate(toy)
    assert "also" not in plain.identity()["evaluation"]
    more = TrialSpec.model_validate({**toy, "evaluation": {**toy["evaluation"], "also": ALSO}})
    assert more.key("data") != plain.key("data")
    assert TrialSpec.saved(more.model_dump_json()) == more


def test_they_can_decide_and_have_names_for_people(toy: dict[str, Any]) -> None:
    toy["evaluation"]["also"] = ALSO
    spec = TrialSpec.model_validate(toy)
    assert metrics(spec) == ["eval/fid", "rung/fid", "eval/fid.short", "eval/fid.ddim_few"]
    known = quantity("eval/fid.short", "classifier")
    assert known is not None
    assert known.title == "FID (classifier, short)"
    assert known.lower_is_better


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ([{"name": "a", "steps": 3}, {"name": "a", "steps": 4}], "two are called `a`"),
        ([{"name": "a", "steps": 8}], "`a` is the same as `full`"),
        ([{"name": "a", "steps": 3}, {"name": "b", "steps": 3}], "`b` is the same as `a`"),
        ([{"name": "ci_low", "steps": 3}], "choose another"),
        ([{"name": "full", "steps": 3}], "full is what the reported protocol is called"),
        ([{"name": "a", "grid": {"kind": "cosine", "steps": 10}, "steps": 30}], "also: `a`: "),
        ([{"name": "a", "guidance": {"scale": 2.0}}], "also.0.guidance: steers by labels or tags"),
    ],
)
def test_what_makes_no_protocol_is_refused(toy: dict[str, Any], also: Any, said: str) -> None:
    toy["evaluation"]["also"] = also
    with pytest.raises(ValueError, match=said):
        TrialSpec.model_validate(toy)


def test_they_are_counted_among_what_generation_costs() -> None:
    spec = Evaluation.model_validate({"full": {"images": 100, "steps": 8}, "also": ALSO})
    assert [(path, g.images, g.steps) for path, g in spec.generations()] == [
        ("full", 100, 8), ("also.0", 100, 3), ("also.1", 64, 8),
    ]  # fmt: skip


def test_further_protocols_have_standard_errors_and_lose_no_training(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A solver that goes astray on the finished weights: its own numbers are lost, and nothing else."""
    toy["evaluation"] |= {"also": ALSO, "error_groups": 4}
    whole = run(toy, tmp_path / "whole")
    assert {n for n in whole.metrics if n.startswith("se/")} == {
        "se/fid", "se/fid.short", "se/fid.ddim_few",
    }  # fmt: skip
    assert 0 < whole.metrics["se/fid.short"] < whole.metrics["eval/fid.short"]
    true = Evaluator._generate

    def astray(self: Any, network: Any, generation: Any, *rest: Any) -> Any:
        for x in true(self, network, generation, *rest):
            yield x * (float("nan") if generation.steps == 3 else 1.0)

    monkeypatch.setattr(Evaluator, "_generate", astray)
    lost = run(toy, tmp_path / "lost")
    assert lost.status == "finished"
    assert math.isnan(lost.metrics["eval/fid.short"])
    assert lost.metrics["eval/fid.ddim_few"] == whole.metrics["eval/fid.ddim_few"]


def test_which_of_them_differ_in_the_way_of_generating_alone() -> None:
    spec = Evaluation.model_validate({"full": {"images": 100, "steps": 8}, "also": ALSO})
    few, odd = Further("short", "eval/fid.short"), "eval/fid.ddim_few"
    assert further(spec, "eval/fid") == (few, Further("ddim_few", odd, "64 images, not 100"))
    assert further(spec, "eval/fid.ddim_few") == (
        Further("full", "eval/fid", "100 images, not 64"),
        few._replace(unlike="100 images, not 64"),
    )
    for other in ("rung/fid", "eval/bpd", "eval/fid-ema-slow", "eval/fid.unknown"):
        assert further(spec, other) == ()
