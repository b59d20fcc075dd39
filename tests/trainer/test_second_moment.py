"""Proves the gradients by noise level: a closed form, nothing changed in the training, the same for any workers."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.gloo import met
from tests.trainer.test_loop import REMEMBERING, STEPS, numbers, run, trial
from trainer.diffusion.log_snr import noised
from trainer.diffusion.process import training_levels
from trainer.distributed import World
from trainer.learner import Learner
from trainer.randomness import Stream
from trainer.record import Record
from trainer.report import Report
from trainer.second_moment import EXAMPLES, SecondMoment
from trainer.tally import BINS, LOWEST, WIDTH
from trainer.trial import TrialSpec

FORK = multiprocessing.get_context("fork")


class Linear(nn.Module):
    """F(x) = W x + b, deaf to the noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.layer(x)


def test_a_linear_network_has_its_closed_form(toy: dict[str, Any]) -> None:
    """Loss |W x + b - eps|^2 / 2 of two dimensions: its gradient is r x^T and r, of squared norm |r|^2 (|x|^2 + 1)."""
    spec = trial(toy, diffusion={"prediction": {"kind": "epsilon"}})
    source, batch = spec.data.load(Path()), 40
    learner = Learner(spec, source.codec.shape)
    torch.manual_seed(0)
    learner.network = Linear()
    asked: list[int] = []

    def example(index: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        asked.append(index)
        rows = torch.tensor([index])
        return source.codec.scale(source.read(rows)), rows, {}

    moment = SecondMoment(learner, batch, every=2)
    for images in (0, 40, 80):
        moment.look(images, range(batch), example, None)
    want = [images + i * batch // EXAMPLES for images in (0, 80) for i in range(EXAMPLES)]
    assert asked == want, "every second batch, evenly spaced"
    assert all(p.grad is None for p in learner.parameters())
    index = torch.tensor(want)
    learner.tally.add(torch.zeros(3, 1).double())
    learner(source.codec.scale(source.read(index)), index, {})
    learner.observe(World(0, 1))
    learner.tally.merge(World(0, 1))
    x0 = source.codec.scale(source.read(index))
    eps = Stream(spec.seed, "train/eps").normal(index, (2,))
    log_snr = training_levels(learner.diffusion, learner._u(index))
    x = noised(x0, eps, log_snr)
    residual = (learner.network.layer(x) - eps).detach().double()
    squares = residual.square().sum(1) * (x.double().square().sum(1) + 1.0)
    place = ((log_snr - LOWEST) / WIDTH).floor().clamp(0, BINS - 1).long()
    rows = {row[0]: row[4] for row in learner.tally.read()}
    for each in place.unique():
        found = rows.pop(LOWEST + WIDTH * (float(each) + 0.5))
        # float32 gradients
        assert found == pytest.approx(float(squares[place == each].mean()), rel=1e-5)
    assert set(rows.values()) <= {None}, "bins whose gradients were not looked at"


HARD = {"diffusion": REMEMBERING, **STEPS}
"""A memory of losses, fp16, passes over parts, the noise scale: whatever an extra pass could disturb."""
MASKS = {
    "data": {"kind": "digits"},
    "model": {"kind": "unet", "channels": [8], "groups": 4, "dropout": 0.3},
    "train": {"kimg": 0.32, "batch_size": 64},
    "evaluation": {"evaluations": 1, "features": {"kind": "pixels"}, "full": {"images": 8, "steps": 2}},
}  # fmt: skip
"""Dropout, whose masks come from torch's own generator."""


@pytest.mark.parametrize("values", [{}, HARD, MASKS], ids=["plain", "hard", "dropout"])
def test_the_training_is_the_same_to_the_last_bit(
    toy: dict[str, Any], tmp_path: Path, values: dict[str, Any]
) -> None:
    without = trial(toy, **values)
    looking = trial(toy, **values, train__tally_gradients=3)
    assert looking.key("data") == without.key("data")
    plain, looked = run(without, tmp_path / "a"), run(looking, tmp_path / "b")
    assert [row[:-1] for row in numbers(plain)] == [row[:-1] for row in numbers(looked)]
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert [[row[:4] for row in r.levels] for r in plain] == [
        [row[:4] for row in r.levels] for r in looked
    ]
    assert any(row[4] is not None for row in looked[-1].levels)
    assert Record(tmp_path / "b").reports() == looked
    heading, *rows = looked[-1].levels_csv().splitlines()
    assert heading == "log_snr,examples,epsilon_mse,loss,gradient_second_moment"
    assert {row.count(",") for row in rows} == {4}
    assert plain[-1].levels_csv().startswith("log_snr,examples,epsilon_mse,loss\n")
    with_empty = Report(1, 0.0, {}, levels=[(0.25, 2, 1.0, 2.0, None), (0.75, 1, 1.0, 2.0, 3.0)])
    assert with_empty.levels_csv().splitlines()[1:] == ["0.25,2,1.0,2.0,", "0.75,1,1.0,2.0,3.0"]


def weights(directory: Path) -> dict[str, list[float]]:
    state, _ = Record(directory).newest_state(torch.device("cpu"))
    assert state is not None
    every = {**state["learner"], **{f"ema.{k}": v for k, v in state["average"].items()}}
    return {name: value.flatten().tolist() for name, value in every.items()}


def _worker(spec: TrialSpec, directory: Path, rank: int, size: int) -> None:
    with met(directory, rank, size):
        run(spec, directory)


def test_two_workers_look_at_the_same_examples(toy: dict[str, Any], tmp_path: Path) -> None:
    """Each at its own share; weights differ by the order of summation, some 1e-6 a step."""
    spec = trial(toy, train__tally_gradients=2)
    alone = run(spec, tmp_path / "1")
    workers = [FORK.Process(target=_worker, args=(spec, tmp_path / "2", r, 2)) for r in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0, 0]
    for one, both in zip(alone, Record(tmp_path / "2").reports(), strict=True):
        assert len(one.levels) == len(both.levels)
        for a, b in zip(one.levels, both.levels, strict=True):
            assert (a[4] is None) == (b[4] is None)
            if a[4] is not None:
                assert b[4] == pytest.approx(a[4], rel=1e-3)
