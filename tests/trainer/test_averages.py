"""Proves that a trial may have several averages: rows of their own, exact resume, and those made afterwards from
snapshots are the ones that were tracked.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.test_loop import numbers, run, trial, weights
from trainer.averages import combination, main, overlap, reconstructed
from trainer.ema import Average, Power, exponent
from trainer.errors import CheckpointError, UserError
from trainer.loop import train
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec
from trainer.yaml.overrides import Layered, Origin
from trainer.yaml.source import parse

SLOW, FAST = {"kind": "ramp", "decay": 0.99}, {"kind": "ramp", "decay": 0.9}
KEPT = {"kind": "power", "snapshots": 16}


@pytest.mark.parametrize("sigma_rel", [0.005, 0.05, 0.1, 0.25])
def test_a_width_is_the_profiles_standard_deviation(sigma_rel: float) -> None:
    gamma = exponent(sigma_rel)
    mean, square = (gamma + 1) / (gamma + 2), (gamma + 1) / (gamma + 3)  # of t^gamma on (0, 1)
    # 1e-6: float64 roots of a cubic whose coefficients reach 4e4, in a difference of near numbers
    assert np.sqrt(square - mean**2) == pytest.approx(sigma_rel, rel=1e-6)


def test_a_power_average_weighs_update_k_by_its_share_of_the_profile() -> None:
    """k^(gamma + 1) - (k - 1)^(gamma + 1) over n^(gamma + 1); nothing is left of the start."""
    network = nn.Linear(3, 2).double()
    average = Average(Power(sigma_rel=0.1), network, copy.deepcopy(network))
    n, power = 20, exponent(0.1) + 1.0
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for k in range(1, n + 1):
        with torch.no_grad():
            network.weight.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(k)))
        average.update()
        expected += (k**power - (k - 1) ** power) / n**power * network.weight.detach()
    # float64, twenty additions
    torch.testing.assert_close(average.network.weight, expected, rtol=1e-12, atol=1e-13)


def test_profiles_meet_in_closed_form() -> None:
    t = (np.arange(200_000) + 0.5) / 200_000 * 7.0
    early, late = (
        (g + 1) / end * (t / end) ** g * (t < end) for end, g in ((5.0, 3.0), (7.0, 1.5))
    )
    # 1e-4: the midpoint rule at the early profile's edge
    assert overlap((7.0, 1.5), (5.0, 3.0)) == pytest.approx(
        np.sum(early * late) * t[0] * 2, rel=1e-4
    )
    given = [(float(t), exponent(s)) for t in (4, 8, 12, 16) for s in (0.05, 0.1)]
    factors = combination(given, given[5])
    # the profile is among them; 1e-6: float64 normal equations of overlapping profiles
    assert factors == pytest.approx(np.eye(8)[5], abs=1e-6)


def test_averages_made_afterwards_are_those_that_were_tracked(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of any width between and around the two that were kept, at the end and on the way."""
    others = [{"kind": "power", "sigma_rel": s, "name": f"s{s}"} for s in (0.04, 0.07, 0.12)]
    two = [KEPT | {"sigma_rel": s, "name": f"kept{s}"} for s in (0.05, 0.1)]
    run(trial(toy, ema=[FAST, *two, *others], train__kimg=12.8), tmp_path / "t")
    record = Record(tmp_path / "t")
    assert [one.update for one in record.snapshots.all()[::2]] == [
        round(12.5 * i) for i in range(1, 17)
    ]
    for one in (*two, *others):
        tracked = vector(Trained.load(record, "cpu", one["name"]).network)
        made = vector(reconstructed(record, one["sigma_rel"], device="cpu").network)
        final = Trained.load(record, "cpu")
        # 1 % of the way from the last weights, which is how far the profiles are apart at sixteen snapshots
        assert torch.dist(made, tracked) < 0.02 * torch.dist(vector(final.network), tracked), one
    exact = record.snapshots.all()[15].load(torch.device("cpu"))
    assert record.snapshots.all()[15].name == "kept0.1"
    halfway = reconstructed(record, 0.1, images=6400, device="cpu")
    assert halfway.images == 6400
    for name, value in halfway.network.state_dict().items():
        # float32 snapshots in a least-squares sum of sixteen
        torch.testing.assert_close(value, exact[name], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="ask for that many or more"):
        reconstructed(record, 0.1, images=64, device="cpu")
    arguments = [str(record.directory), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert main([*arguments, "--sigma-rel", "0.07", "--name", "wide"]) == 0
    first, kept = capsys.readouterr().out.splitlines()
    assert kept == f"  kept: diffsweep evaluate {record.directory} --average wide"
    again = Trained.load(record, "cpu", "wide")
    assert torch.equal(
        vector(again.network), vector(reconstructed(record, 0.07, device="cpu").network)
    )
    assert again.images == 12800
    assert f"eval/fid {again.measure(tmp_path / 'cache').metrics['eval/fid']:.4g}" in first
    assert not torch.equal(vector(again.network), vector(final.network))
    with pytest.raises(UserError, match=r"`s0\.12`, `wide`"):
        Trained.load(record, "cpu", "wider")
    two_widths = ["--sigma-rel", "0.07", "--sigma-rel", "0.08"]
    for more, said in (
        ([*two_widths, "--name", "x"], "--name: 1 for 2 of --sigma-rel: give each width a name"),
        ([*two_widths, "--name", "x", "--name", "x"], "--name x: is given twice"),
        (["--sigma-rel", "0.07", "--name", "a/b"], "--name a/b: use up to 40 letters"),
        (["--sigma-rel", "0.07", "--name", "kept0.1"], "the trial tracked an average of this name"),
    ):
        assert main([*arguments, *more]) == 2
        assert said in capsys.readouterr().err
    (record.directory / "averages" / "wide.pt").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="remove it and make it again"):
        Trained.load(record, "cpu", "wide")
    assert main([*arguments, "--sigma-rel", "0.9"]) == 2
    assert "sigma_rel" in capsys.readouterr().err


def vector(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


def test_every_average_is_a_row_and_resumes_exactly(toy: dict[str, Any], tmp_path: Path) -> None:
    several = [FAST, SLOW | {"name": "slow"}, KEPT | {"snapshots": 3}]
    spec = trial(toy, ema=several, evaluation__draws=2)
    whole = run(spec, tmp_path / "whole")
    alone = run(trial(toy, ema=SLOW, evaluation__draws=2), tmp_path / "alone")
    first = run(trial(toy, ema=FAST, evaluation__draws=2), tmp_path / "first")
    last = whole[-1]
    assert last.metrics["eval/fid-ema-slow"] == alone[-1].metrics["eval/fid"]
    assert last.metrics["eval/fid"] == first[-1].metrics["eval/fid"]
    assert last.draws["eval/fid-ema-power"] != last.draws["eval/fid"]
    assert last.protocol["eval/fid-ema-power"] == last.protocol["eval/fid"]
    assert "eval/fid-ema-slow" not in whole[0].metrics, "only at the end"
    result = Record(tmp_path / "whole").result()
    assert result is not None
    assert result.protocol == last.protocol
    loop = train(spec, tmp_path / "cut", cache=tmp_path / "cache", device="cpu")
    next(loop)
    loop.close()
    run(spec, tmp_path / "cut")
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)
    for name in ("slow", "power"):
        a, b = (Trained.load(tmp_path / d, "cpu", name).network for d in ("whole", "cut"))
        assert torch.equal(vector(a), vector(b)), name
    copies = [Record(tmp_path / d).snapshots.all() for d in ("whole", "cut")]
    assert [one.update for one in copies[0]] == [13, 27, 40]
    assert [one.path.read_bytes() for one in copies[0]] == [
        one.path.read_bytes() for one in copies[1]
    ]
    with pytest.raises(UserError, match="the trial has `ramp`, `slow`, `power`"):
        Trained.load(tmp_path / "cut", "cpu", "fast")
    with pytest.raises(UserError, match="keeps no snapshots"):
        reconstructed(Record(tmp_path / "alone"), 0.1, device="cpu")


def test_a_checkpoint_of_before_there_were_several_still_loads(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    whole = run(trial(toy), tmp_path / "whole")
    loop = train(trial(toy), tmp_path / "cut", cache=tmp_path / "cache", device="cpu")
    next(loop)
    loop.close()
    record = Record(tmp_path / "cut")
    state, _ = record.newest_state(torch.device("cpu"))
    assert state is not None
    old = (
        "progress",
        "learner",
        "average",
        "updates",
        "optimizer",
        "codec",
        "fingerprint",
        "trial",
    )
    record.save_checkpoint(state["progress"]["images"], {name: state[name] for name in old})
    run(trial(toy), tmp_path / "cut")
    assert numbers(record.reports()) == numbers(whole)
    assert all(
        torch.equal(v, weights(tmp_path / "cut")[k]) for k, v in weights(tmp_path / "whole").items()
    )


def test_a_list_of_one_is_that_one_and_names_are_told_apart(toy: dict[str, Any]) -> None:
    assert trial(toy, ema=[SLOW]) == trial(toy, ema=SLOW)
    assert trial(toy, ema=[SLOW]).key("d") == trial(toy, ema=SLOW).key("d")
    spec = trial(toy, ema=[SLOW, KEPT])
    assert TrialSpec.saved(json.loads(spec.model_dump_json())) == spec
    with pytest.raises(ValueError, match="two averages are called `ramp`: give them a `name`"):
        trial(toy, ema=[SLOW, FAST])


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "[{kind: ramp}, {kind: rampp}]",
            "ema[1].kind: unknown kind `rampp`, did you mean `ramp`?",
        ),
        (
            "[{kind: ramp}, {kind: power, sigma_rel: 2}]",
            "ema[1].sigma_rel: must be 0.25 or less, not `2`",
        ),
        (
            "{kind: power, width: 2}",
            "ema.width: unknown key of `power`, did you mean",
        ),
        ("[]", "ema: needs 1 or more entries, it has 0"),
        ("3", "ema: must be a mapping such as {kind: ramp}, not `3`; kinds: `ramp`, `constant`"),
        ("[{kind: ramp, name: a/b}, {kind: power}]", "ema[0].name: must match"),
    ],
)
def test_what_is_wrong_is_told_in_plain_words(toy: dict[str, Any], written: str, said: str) -> None:
    source = parse(f"ema: {written}\n", "x.yaml")
    tree = Layered(toy, Origin(parse("{}", "t.yaml"), ()), TrialSpec)
    assert tree.put(("ema",), source.data["ema"], Origin(source, ("ema",))) is None
    with pytest.raises(UserError) as caught:
        tree.model_or_raise()
    assert str(caught.value).startswith(f"x.yaml:1: {said}"), str(caught.value)
