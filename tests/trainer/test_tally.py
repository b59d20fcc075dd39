"""Proves the loss by noise level: right bins and means, the whole loss in parts, kept in the record to the last bit."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.test_loop import numbers, run, trial
from trainer.diffusion.process import training_levels
from trainer.distributed import World
from trainer.learner import Learner
from trainer.loop import train
from trainer.randomness import Stream
from trainer.record import Record
from trainer.tally import BINS, LOWEST, WIDTH, Row, Tally

ALONE = World(0, 1)


def test_bins_hold_the_means_of_their_examples() -> None:
    """By a loop in plain numbers, over more batches than are sorted at once; levels beyond the ends count there."""
    tally, expected = Tally(), dict[int, list[tuple[float, float]]]()
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        log_snr = 12.0 * torch.randn(8, generator=generator, dtype=torch.float64)
        values = torch.rand(2, 8, generator=generator)
        tally.add(Tally.row(log_snr, *values))
        for level, a, b in zip(log_snr.tolist(), *values.tolist(), strict=True):
            place = min(BINS - 1, max(0, math.floor((level - LOWEST) / WIDTH)))
            expected.setdefault(place, []).append((a, b))
    tally.merge(ALONE)
    rows = tally.read()
    assert sum(row[1] for row in rows) == 1200
    assert [row[0] for row in rows] == [LOWEST + WIDTH * (i + 0.5) for i in sorted(expected)]
    for row, (_, held) in zip(rows, sorted(expected.items()), strict=True):
        means = [sum(column) / len(held) for column in zip(*held, strict=True)]
        # float64 sums in another order
        assert row[1:] == (
            len(held),
            pytest.approx(means[0], rel=1e-13),
            pytest.approx(means[1], rel=1e-13),
            None,
        )
    assert tally.read() == [], "it began again"


def test_what_is_not_finite_is_left_out() -> None:
    tally = Tally()
    bad = torch.tensor([1.0, math.nan, math.inf, 2.0])
    tally.add(Tally.row(torch.tensor([0.1, 0.1, 0.1, math.nan]), bad, torch.ones(4)))
    tally.add(Tally.row(torch.tensor([math.inf, -math.inf]), torch.ones(2), torch.ones(2)))
    tally.merge(ALONE)
    assert tally.read() == [(place, 1, 1.0, 1.0, None) for place in (-15.75, 0.25, 15.75)]


def test_the_parts_make_up_the_loss(toy: dict[str, Any], tmp_path: Path) -> None:
    """Weighted means times counts are the loss curve; each report tells of its own images; the record keeps them."""
    reports = run(trial(toy, diffusion={"weighting": {"kind": "min_snr"}}), tmp_path / "a")
    for report in reports:
        assert sum(row[1] for row in report.levels) == 640
        losses = [values["train/loss"] for _, values in report.series]
        # float32 batch losses of a few batches each
        whole = sum(row[1] * row[3] for row in report.levels) / 640
        assert whole == pytest.approx(sum(losses) / len(losses), rel=0.05)
    every = sum(row[1] * row[3] for r in reports for row in r.levels) / 2560
    curve = [v["train/loss"] for r in reports for _, v in r.series]
    assert every == pytest.approx(sum(curve) / len(curve), rel=1e-5)
    weighted, unweighted = (column(reports[-1].levels, i) for i in (3, 2))
    assert unweighted != pytest.approx(weighted), "the weight is in one of them only"
    assert Record(tmp_path / "a").reports() == reports


def column(rows: list[Row], place: int) -> list[float | None]:
    return [row[place] for row in rows]


@pytest.mark.parametrize("kind", ["data", "epsilon"])
def test_epsilon_mse_means_the_same_for_every_prediction(toy: dict[str, Any], kind: str) -> None:
    """A network that is zero at the start predicts x0 = 0 or eps = 0: errors of SNR x0^2 and eps^2 in terms of eps."""
    spec = trial(toy, diffusion={"prediction": {"kind": kind}, "weighting": {"kind": "min_snr"}})
    source = spec.data.load(Path())
    learner, index = Learner(spec, source.codec.shape), torch.arange(256)
    x0 = source.codec.scale(source.read(index))
    learner(x0, index, {})
    learner.observe(ALONE)
    learner.tally.merge(ALONE)
    rows = learner.tally.read()
    log_snr = training_levels(learner.diffusion, learner._u(index))
    eps = Stream(spec.seed, "train/eps").normal(index, (2,)).double()
    error = eps if kind == "epsilon" else torch.exp(0.5 * log_snr)[:, None] * x0.double()
    expected = error.square().mean(1).sum().item()
    # float32 residuals
    assert sum(row[1] * row[2] for row in rows) == pytest.approx(expected, rel=1e-5)


def test_a_kill_between_reports_loses_no_example(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = trial(toy, train__log_every_kimg=0.192, evaluation__evaluations=1)
    whole = run(spec, tmp_path / "whole")
    keep, saved = Record.save_checkpoint, []

    def save(record: Record, images: int, *rest: Any, **options: Any) -> Path:
        if saved:
            raise KeyboardInterrupt
        saved.append(images)
        return keep(record, images, *rest, **options)

    monkeypatch.setattr(Record, "save_checkpoint", save)
    with pytest.raises(KeyboardInterrupt):
        list(
            train(
                spec,
                tmp_path / "cut",
                cache=tmp_path / "cache",
                device="cpu",
                checkpoint_every_s=0.0,
            )
        )
    monkeypatch.undo()
    assert 0 < saved[-1] < 2560
    assert numbers(run(spec, tmp_path / "cut")) == numbers(whole)
