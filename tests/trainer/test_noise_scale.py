"""Proves the gradient noise scale: known gradients give the known scale, a training's are those of its parts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainer.test_loop import numbers, run, trial
from trainer.distributed import World
from trainer.loop import train
from trainer.noise_scale import NoiseScale
from trainer.record import Record
from trainer.training import Training
from trainer.trial import TrialSpec

ALONE = World(0, 1)
ONE = torch.ones(())


@pytest.mark.parametrize("counts", [[8, 8], [4, 4, 4, 4], [7, 7, 2]])
def test_gradients_with_a_known_noise_have_its_scale(counts: list[int]) -> None:
    """Each example's gradient is `mean` plus noise of variance 4 in ten directions: the scale is 40/|mean|^2."""
    weight = nn.Parameter(torch.zeros(10))
    mean = torch.full((10,), 0.6)
    noise = NoiseScale([weight], counts, 1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        weight.grad = None
        for count in counts:
            examples = mean + 2.0 * torch.randn(count, 10, generator=generator)
            (3.0 * (examples @ weight).sum() / 16).backward()  # a loss scaler's factor of 3
            noise.passed(count, torch.tensor(3.0))
        assert weight.grad is not None
        weight.grad /= 3.0
        noise.update()
    # 10 %: the batch's squared norm, 3.6 + 2.5, scatters by 2.7, its mean over 2000 by 0.06; twice that on either side
    assert noise.merge(ALONE)["train/gns"] == pytest.approx(40.0 / 3.6, rel=0.1)


def test_a_trainings_means_are_those_of_its_own_gradients(toy: dict[str, Any]) -> None:
    """One step in parts of 24, 24 and 16, against gradients of the parts alone."""
    settings = {"kimg": 2.56, "batch_size": 64, "microbatch": 24, "gns": True}
    spec = trial(toy, train=settings)
    training = Training(spec, spec.data.load(Path()), ALONE)
    assert training.noise is not None
    parameters = training.learner.clipped()[0]
    squares, whole = [], [torch.zeros_like(p) for p in parameters]
    for first, count in ((0, 24), (24, 24), (48, 16)):
        x0, index = training.update.batches.get(first, count), torch.arange(first, first + count)
        gradients = torch.autograd.grad(training.learner(x0, index, {}).mean(), parameters)
        squares.append(sum(float(g.double().square().sum()) for g in gradients))
        for total, g in zip(whole, gradients, strict=True):
            total += g * count / 64
    training.noise._norms.clear()  # those of the gradients above
    training.step()
    small, big = (training.noise._means / (1.0 - 0.9998)).tolist()
    # float32 gradients in other sums
    assert small == pytest.approx(sum(squares) / 3, rel=1e-5)
    assert big == pytest.approx(sum(float(g.double().square().sum()) for g in whole), rel=1e-5)


def test_it_is_logged_changes_little_and_resumes_exactly(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """With one worker and one pass the batch is halved, which only changes the order of sums."""
    plain = run(trial(toy), tmp_path / "plain")
    spec = trial(toy, train__gns=True)
    whole = run(spec, tmp_path / "whole")
    loop = train(spec, tmp_path / "cut", cache=tmp_path / "cache", device="cpu")
    next(loop)
    loop.close()
    run(spec, tmp_path / "cut")
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)
    assert whole[-1].metrics["train/gns"] > 1.0
    assert "train/gns" not in plain[-1].metrics
    # float32 sums in another order over forty AdamW steps
    assert whole[-1].metrics["train/loss"] == pytest.approx(
        plain[-1].metrics["train/loss"], rel=1e-3
    )
    assert trial(toy, train__gns=False).key("d") == TrialSpec.model_validate(toy).key("d")


def test_where_it_cannot_be_right_it_is_refused(toy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"train\.gns: .* drawn stratified: use diffusion"):
        trial(
            toy, train__gns=True, diffusion={"timesteps": {"kind": "uniform", "draw": "stratified"}}
        )
    with pytest.raises(ValueError, match=r"train\.gns: a batch of one has no parts"):
        trial(toy, train={"kimg": 1.0, "batch_size": 1, "gns": True})
