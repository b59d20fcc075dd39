"""Proves what several generation noises promise: the first is as it was, the number is their mean, none is lost."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.data import Gaussians
from trainer.diffusion.process import Diffusion, training_levels
from trainer.distributed import World
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.features import Pixels
from trainer.evaluation.generation import generate
from trainer.evaluation.measurement import Measurement
from trainer.evaluation.metric.base import Moments, Real, Statistics
from trainer.evaluation.metric.frechet import FID
from trainer.evaluation.protocol import Evaluation
from trainer.learner import _LEVELS, Learner
from trainer.loop import train
from trainer.models import MLP
from trainer.record import Record
from trainer.report import Report, Result
from trainer.trained import Trained
from trainer.trial import TrialSpec

ALONE = World(0, 1)
SOURCE = Gaussians(examples=256).load(Path())


def evaluation(**values: Any) -> Evaluation:
    generation = {"images": 64, "steps": 4, "solver": {"kind": "ddpm"}}
    metrics = ["fid", "kid"]
    return Evaluation.model_validate(
        {"full": generation, "features": {"kind": "pixels"}, "metrics": metrics, **values}
    )


def measured(cache: Path, network: Any, **values: Any) -> Measurement:
    evaluator = Evaluator(evaluation(**values), Diffusion(), SOURCE, cache)
    return evaluator.measure(network, "full", ALONE)


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return MLP(width=16).build((2,))


def test_one_draw_is_the_number_of_one_generated_set(tmp_path: Path, network: Any) -> None:
    """Computed here by hand, from the noise seed itself."""
    one = measured(tmp_path, network, draws=1, noise_seed=5)
    spec = evaluation(noise_seed=5)
    x = generate(network, Diffusion(), SOURCE.codec, spec.full, range(64), 5)
    space = Pixels().build(SOURCE, tmp_path)
    both = []
    for images in (x, SOURCE.codec.scale(SOURCE.read(torch.arange(256)))):
        moments = Moments.empty(2)
        moments.add(space.features(images))
        both.append(Statistics(moments))
    by_hand = FID().measure(both[0], Real(FID().prepare(both[1])))
    assert one.metrics["eval/fid"] == pytest.approx(by_hand, rel=1e-9)  # moments summed otherwise
    assert one.draws == {name: [value] for name, value in one.metrics.items()}


def test_the_first_of_three_is_the_one_and_each_is_an_evaluation_of_its_own(
    tmp_path: Path, network: Any
) -> None:
    one = measured(tmp_path, network, draws=1, noise_seed=5)
    three = measured(tmp_path, network, draws=3, noise_seed=5)
    assert torch.equal(three.samples, one.samples)
    for k, noise in enumerate(evaluation(draws=3, noise_seed=5).noises("full")):
        alone = measured(tmp_path, network, draws=1, noise_seed=noise)
        assert alone.metrics == {name: values[k] for name, values in three.draws.items()}
    for name, values in three.draws.items():
        assert values[0] == one.metrics[name]
        assert len(set(values)) == 3
        assert three.metrics[name] == sum(values) / 3


def test_noises_are_named_by_their_number() -> None:
    """More draws add to those there are; the cheap protocol has the first alone."""
    few, many = evaluation(draws=2, noise_seed=9), evaluation(draws=6, noise_seed=9)
    assert few.noises("full") == many.noises("full")[:2]
    assert len(set(many.noises("full"))) == 6
    assert many.noises("full")[0] == 9
    assert many.noises("rung") == (9,)
    assert not set(many.noises("full")) & set(evaluation(draws=6, noise_seed=8).noises("full"))


def test_draws_are_in_the_reported_protocol_alone() -> None:
    rung = {"images": 32, "steps": 2}
    one, three = evaluation(draws=1, rung=rung), evaluation(draws=3, rung=rung)
    ids = {spec.protocol_id(FID(), "full", "data") for spec in (one, three)}
    assert len(ids) == 2
    assert one.protocol_id(FID(), "rung", "data") == three.protocol_id(FID(), "rung", "data")
    assert evaluation().draws == 3


def test_a_trial_of_one_draw_keeps_the_key_it_had(toy: dict[str, Any]) -> None:
    toy["evaluation"]["draws"] = 1
    one = TrialSpec.model_validate(toy)
    assert "draws" not in one.identity()["evaluation"]
    toy["evaluation"]["draws"] = 3
    assert TrialSpec.model_validate(toy).key("data") != one.key("data")


def test_a_draw_that_breaks_breaks_the_measurement(tmp_path: Path, network: Any) -> None:
    """From the second set on: a mean over the sets that survived would flatter."""
    calls = 0

    def breaking(x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return network(x, condition) * (1.0 if calls <= 4 else math.nan)

    found = measured(tmp_path, breaking, draws=3)
    assert not found.finite
    assert all(math.isnan(value) for value in found.metrics.values())
    first, second, third = found.draws["eval/fid"]
    assert math.isfinite(first)
    assert math.isnan(second)
    assert math.isnan(third)


# A trial


def run(toy: dict[str, Any], directory: Path) -> Result:
    spec = TrialSpec.model_validate(toy)
    list(train(spec, directory, cache=directory.parent / "cache", device="cpu"))
    result = Record(directory).result()
    assert result is not None
    return result


def test_the_record_keeps_every_draw(toy: dict[str, Any], tmp_path: Path) -> None:
    result = run(toy, tmp_path / "three")
    assert list(result.draws) == ["eval/fid"]
    assert result.metrics["eval/fid"] == sum(result.draws["eval/fid"]) / 3
    reports = Record(tmp_path / "three").reports()
    assert [list(report.draws) for report in reports] == [[], [], [], ["eval/fid"]]
    toy["evaluation"]["draws"] = 1
    one = run(toy, tmp_path / "one")
    assert one.draws == {}, "the number says it all"
    assert one.metrics["eval/fid"] == result.draws["eval/fid"][0]
    assert one.metrics["rung/fid"] == result.metrics["rung/fid"]


def test_a_result_that_was_not_written_is_made_of_the_same_draws(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """Killed after the last checkpoint: nothing is generated again."""
    whole = run(toy, tmp_path / "a")
    (tmp_path / "a" / "result.json").unlink()
    assert run(toy, tmp_path / "a").draws == whole.draws


def test_without_a_rung_every_point_of_the_curve_has_all_draws(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """One name, one protocol: the curve's last point is the reported number."""
    del toy["evaluation"]["rung"]
    result = run(toy, tmp_path / "a")
    reports = Record(tmp_path / "a").reports()
    assert [len(report.draws["eval/fid"]) for report in reports] == [3, 3, 3, 3]
    assert len({report.protocol["eval/fid"] for report in reports}) == 1
    assert reports[-1].draws == result.draws


def test_what_is_trained_measures_the_same_draws(toy: dict[str, Any], tmp_path: Path) -> None:
    result = run(toy, tmp_path / "a")
    trained = Trained.load(tmp_path / "a", "cpu")
    again = trained.measure(tmp_path / "cache")
    assert again.draws["eval/fid"] == result.draws["eval/fid"]
    assert again.metrics["eval/fid"] == result.metrics["eval/fid"]
    assert torch.equal(trained.generate(index=range(4)), again.samples[:4])


# What an earlier version wrote


def test_records_without_draws_are_read_as_of_one(toy: dict[str, Any], tmp_path: Path) -> None:
    toy["evaluation"]["draws"] = 1
    run(toy, tmp_path / "a")
    files = {name: tmp_path / "a" / name for name in ("trial.json", "result.json", "reports.jsonl")}
    trial, result = (json.loads(files[name].read_text()) for name in ("trial.json", "result.json"))
    del trial["evaluation"]["draws"]
    del result["draws"], result["crc32"]
    lines = [json.loads(line) for line in files["reports.jsonl"].read_text().splitlines()]
    for line in lines:
        del line["draws"], line["crc32"]
    files["trial.json"].write_text(json.dumps(trial))
    files["result.json"].write_text(json.dumps(result))
    files["reports.jsonl"].write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    record = Record(tmp_path / "a")
    assert record.trial() == TrialSpec.model_validate(toy)
    known = record.result()
    assert known is not None
    assert known.draws == {}
    assert [report.draws for report in record.reports()] == [{}] * 4
    assert run(toy, tmp_path / "a") == known, "it is the same trial, and it is done"


def test_draws_survive_the_way_to_disk() -> None:
    report = Report(100, 1.0, {"eval/fid": 2.0}, draws={"eval/fid": [1.0 / 3.0, 2.0, 11.0 / 3.0]})
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize("values", [{}, {"timesteps": {"kind": "uniform", "draw": "antithetic"}}])
def test_what_is_foreseen_is_what_would_be_drawn(values: dict[str, Any]) -> None:
    """Noise and noise levels of the examples to come are made at once: to the last bit as example by example."""
    trial = TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": {"kind": "unet", "channels": [8], "blocks": 1},
            "diffusion": values,
            "train": {"kimg": 1.0, "batch_size": 50},
            "evaluation": {"full": {"images": 2, "steps": 1}, "features": {"kind": "pixels"}},
        }
    )
    learner = Learner(trial, (1, 8, 8))
    index = torch.arange(_LEVELS - 20, _LEVELS + 30)  # over the end of a stretch
    foreseen = learner.foresee(index)
    assert foreseen is not None
    assert torch.equal(foreseen.eps, learner._eps.normal(index, (1, 8, 8)))
    log_snr = training_levels(learner.diffusion, learner._u(index))
    scalars = learner.diffusion.scalars(log_snr)
    for name, one, other in zip(scalars._fields, foreseen.scalars, scalars, strict=True):
        assert torch.equal(one, other.to(one.dtype)), name
