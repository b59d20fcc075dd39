"""Proves what `se/...` is: the spread over other images of one network, and nothing that changes a number or a name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.evaluation.errors import standard_errors
from trainer.evaluation.metric import KINDS, Moments
from trainer.evaluation.metric.base import Real, Statistics
from trainer.evaluation.protocol import Evaluation
from trainer.loop import train
from trainer.record import Record
from trainer.report import Result
from trainer.trial import TrialSpec


def statistics(rows: torch.Tensor) -> Statistics:
    moments = Moments.empty(rows.shape[1])
    moments.add(rows)
    return Statistics(moments, rows)


def sample(seed: int, count: int = 400) -> torch.Tensor:
    return 1.3 * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) + 0.2


@pytest.mark.parametrize(
    ("kind", "most"),
    [("fid", 1.6), ("kid", 1.6), ("precision", 1.6), ("density", 1.6), ("recall", 2.6)],
)
def test_it_is_the_spread_over_independent_sets(kind: str, most: float) -> None:
    """60 sets of 400: the standard deviation of the metric, against the root mean square of its standard errors."""
    metric, real = KINDS[kind](), torch.randn(500, 3, generator=torch.Generator().manual_seed(99))
    known = {metric.name: Real(metric.prepare(statistics(real)), real)}
    values, errors = [], []
    for seed in range(60):
        seen = statistics(sample(seed))
        values.append(metric.measure(seen, known[metric.name]))
        if seed < 20:
            errors.append(standard_errors([metric], seen, known, 20)[metric.name])
    # sd of 60 values: 9 %; a jackknife of 20 groups is off by 16 %, less over 20 sets; and it leans to more, by a
    # factor of two for recall, where an image is another's ball: not a smooth statistic
    assert 0.7 < float(np.sqrt(np.mean(np.square(errors)))) / np.std(values) < most


def test_the_mean_has_its_textbook_error() -> None:
    """Of a linear statistic the jackknife over groups of one is the standard error exactly."""

    class Mean(KINDS["fid"]):  # type: ignore[misc]
        def measure(self, generated: Statistics, real: Real) -> float:
            return float(generated.moments.mean()[0])

    rows = sample(0, 50).double()
    found = standard_errors([Mean()], statistics(rows), {"fid": Real({})}, 50)["fid"]
    assert found == pytest.approx(float(rows[:, 0].std()) / 50**0.5, rel=1e-9)


def run(toy: dict[str, Any], directory: Path) -> Result:
    spec = TrialSpec.model_validate(toy)
    list(train(spec, directory, cache=directory.parent / "cache", device="cpu"))
    result = Record(directory).result()
    assert result is not None
    return result


def test_a_trial_keeps_it_beside_equal_numbers_under_the_same_key(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    toy["evaluation"]["metrics"] = ["fid", "kid"]
    plain, key = run(toy, tmp_path / "a"), TrialSpec.model_validate(toy).key("data")
    toy["evaluation"]["error_groups"] = 8
    more = run(toy, tmp_path / "b")
    assert TrialSpec.model_validate(toy).key("data") == key
    assert {n: v for n, v in more.metrics.items() if not n.startswith(("se/", "sys/"))} == {
        n: v for n, v in plain.metrics.items() if not n.startswith("sys/")
    }
    assert more.protocol == plain.protocol
    assert {n for n in more.metrics if n.startswith("se/")} == {"se/fid", "se/kid"}
    assert 0.0 < more.metrics["se/fid"] < more.metrics["eval/fid"]
    reports = Record(tmp_path / "b").reports()
    assert reports[-1].metrics["se/fid"] == more.metrics["se/fid"]
    assert "se/fid" not in reports[0].metrics, "the curve has none"


def test_groups_must_leave_images(toy: dict[str, Any]) -> None:
    for groups in (1, 129):
        toy["evaluation"]["error_groups"] = groups
        with pytest.raises(ValueError, match=rf"error_groups: {groups} for 256 images"):
            TrialSpec.model_validate(toy)


@pytest.mark.parametrize(
    ("groups", "images", "metrics", "said"),
    [
        (
            2,
            6,
            ["recall", "fid"],
            r"error_groups: 2 of 6 images \(full\) leave 3 .*, recall needs 4",
        ),
        (4, 12, ["is"], r"leave 9 when one is taken away, is needs 10"),
    ],
)
def test_groups_leave_enough_images_for_every_metric(
    groups: int, images: int, metrics: list[str], said: str
) -> None:
    full = {"full": {"images": images, "steps": 1}, "metrics": metrics}
    with pytest.raises(ValueError, match=said):
        Evaluation.model_validate({**full, "error_groups": groups})
    Evaluation.model_validate(full)
