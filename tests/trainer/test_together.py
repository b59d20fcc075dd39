"""Trials that share a process: each computes what it computes alone, and ends alone."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import toy_trial
from trainer.leaving import Left, Told
from trainer.loop import Stepwise, stepwise, train
from trainer.record import Record
from trainer.report import Report
from trainer.together import Ended, Together
from trainer.trial import TrialSpec

CPU = torch.device("cpu")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def trial(**values: Any) -> TrialSpec:
    return TrialSpec.model_validate(toy_trial() | values)


UNET = {"kind": "unet", "channels": [8, 16], "blocks": 1, "dropout": 0.2}


@pytest.mark.parametrize("device", DEVICES)
def test_each_computes_what_it_computes_alone(tmp_path: Path, device: str) -> None:
    """Seeds of a network with dropout, whose generator is one for the process, beside another network."""
    specs = [
        *(trial(seed=seed, data={"kind": "digits"}, model=UNET) for seed in range(3)),
        trial(),
    ]

    def run(spec: TrialSpec, where: Path, leave: Told) -> Stepwise:
        return stepwise(spec, where, cache=tmp_path / "cache", device=device, leave=leave)

    alone = [
        list(train(spec, tmp_path / f"alone-{i}", cache=tmp_path / "cache", device=device))
        for i, spec in enumerate(specs)
    ]
    members = {
        i: partial(run, spec, tmp_path / f"beside-{i}") for i, spec in enumerate(specs)
    }  # fmt: skip
    heard: dict[int, list[Any]] = {i: [] for i in members}
    with Together(members, torch.device(device)) as reports:
        for i, told in reports:
            heard[i].append(told)
    for i, expected in enumerate(alone):
        *reports_of_it, last = heard[i]
        assert isinstance(last, Ended)
        assert [numbers(one) for one in reports_of_it] == [numbers(one) for one in expected]
        assert Record(tmp_path / f"beside-{i}").result() is not None


def numbers(report: Report) -> Any:
    metrics = {k: v for k, v in report.metrics.items() if not k.startswith("sys/")}
    return report.images, metrics, report.series, report.levels


def test_an_error_of_one_is_its_own(tmp_path: Path) -> None:
    def fails(_: Told) -> Stepwise:
        raise ValueError("this one alone")
        yield

    spec = trial()
    goes_on = partial(stepwise, spec, tmp_path / "a", cache=tmp_path, device="cpu")
    with Together({"bad": fails, "good": lambda leave: goes_on(leave=leave)}, CPU) as reports:
        heard = list(reports)
    (error,) = [told for name, told in heard if name == "bad"]
    assert str(error) == "this one alone"
    assert [type(told) for name, told in heard if name == "good"][-1] is Ended
    assert len(heard) == 1 + 4 + 1


def test_those_that_are_left_keep_a_checkpoint(tmp_path: Path) -> None:
    """Leaving the block tells all; each comes to the end of its step, and goes on later."""
    spec = trial(train={"kimg": 12.8, "batch_size": 64})
    found: dict[str, Exception] = {}

    def member(name: str, leave: Told) -> Stepwise:
        try:
            yield from stepwise(spec, tmp_path / name, cache=tmp_path, device="cpu", leave=leave)
        except Left as left:
            found[name] = left
            raise

    with Together({name: partial(member, name) for name in ("a", "b")}, CPU) as reports:
        for _ in range(2):
            next(reports)
    assert set(found) == {"a", "b"}
    assert all(Record(tmp_path / name).newest_state(CPU)[0] is not None for name in found)


def test_one_may_be_told_to_leave(tmp_path: Path) -> None:
    def member(name: str, leave: Told) -> Stepwise:
        return stepwise(trial(), tmp_path / name, cache=tmp_path, device="cpu", leave=leave)

    together = Together({name: partial(member, name) for name in ("a", "b")}, CPU)
    last: dict[str, Any] = {}
    with together as reports:
        for name, told in reports:
            together.leave("a")
            last[name] = told
    assert isinstance(last["a"], Left)
    assert isinstance(last["b"], Ended)
