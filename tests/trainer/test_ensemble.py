"""Trials that share a program compute what they compute alone, but for the order of sums; nobody touches another."""

import gc
import shutil
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import toy_trial
from tests.trainer.test_replayed import IMAGES, UNET
from trainer.checkpoint import checkpoints, even, images_of
from trainer.distributed import World
from trainer.ensemble import Ensemble, alike
from trainer.keeper import Due
from trainer.leaving import Told
from trainer.loop import Stepwise, stepwise, train
from trainer.record import Record
from trainer.report import Report
from trainer.sharing import kind, refusal
from trainer.together import Ended, Together
from trainer.training import Training
from trainer.trial import TrialSpec

CPU = torch.device("cpu")
ROUNDING = 2e-5
"""Largest difference of a loss after some steps, relative: float32 sums in another order, some 1e-7 of each, grow in
training by a factor of some ten."""
STEPS = 12
ASTRAY = {"kind": "sgd", "lr": 1000.0, "grad_clip": None}


def spec(**values: Any) -> TrialSpec:
    given = toy_trial() | {"data": {"kind": "digits"}, "model": UNET} | values
    return TrialSpec.model_validate(given)


def training(trial: TrialSpec) -> Training:
    return Training(trial, IMAGES, World(0, 1))


def trained(trial: TrialSpec) -> Training:
    alone = training(trial)
    for _ in range(STEPS):
        alone.step()
    return alone


def losses(one: Training) -> list[float]:
    return [float(loss) for loss in one._pending]


ARMS: dict[str, list[dict[str, Any]]] = {
    "seeds": [{"seed": seed} for seed in range(3)],
    "rates and optimizers": [
        {"optimizer": {"lr": 1e-2}},
        {"optimizer": {"lr": 1e-4, "weight_decay": 0.1, "grad_clip": 0.1}},
        {"optimizer": {"kind": "sgd", "lr": 1e-2, "lr_schedule": {"kind": "cosine"}}},
    ],
    "what papers claim": [
        {"diffusion": {"timesteps": {"kind": "p2"}}},
        {"diffusion": {"weighting": {"kind": "min_snr"}, "prediction": {"kind": "velocity"}}},
        {"diffusion": {"schedule": {"kind": "linear_beta", "steps": 1000}}},
        {"diffusion": {"objective": {"kind": "learned_uncertainty"}}},
        {"diffusion": {"timesteps": {"kind": "loss_second_moment"}}},
    ],
    "adam": [{"optimizer": {"kind": "adam"}}, {"optimizer": {"kind": "adam", "lr": 1e-2}}],
    "muon": [
        {"optimizer": {"kind": "muon", "lr": 1e-2}},
        {"optimizer": {"kind": "muon"}, "seed": 1},
    ],
    "averages": [{"ema": {"kind": "constant", "decay": 0.9}}, {"ema": {"kind": "power"}}],
    "bf16": [
        {"seed": seed, "train": {"kimg": 2.56, "batch_size": 64, "precision": "bf16"}}
        for seed in range(2)
    ],
    "passes": [
        {"seed": seed, "train": {"kimg": 2.56, "batch_size": 64, "microbatch": 24}}
        for seed in range(2)
    ],
    "labels": [
        {
            "seed": seed,
            "model": UNET | {"classes": 10},
            "train": {"kimg": 2.56, "batch_size": 64, "label_dropout": 0.1},
        }
        for seed in range(2)
    ],
    "augmented": [{"seed": seed, "inputs": [{"kind": "augmented"}]} for seed in range(2)],
    "attention": [
        {"seed": seed, "model": UNET | {"layout": "ddpm", "attention": [1]}} for seed in range(2)
    ],
    "transformer": [
        {"seed": seed, "model": {"kind": "dit", "width": 32, "depth": 1, "heads": 2, "patch": 2}}
        for seed in range(2)
    ],
}


@pytest.mark.parametrize("arms", ARMS.values(), ids=ARMS)
def test_each_computes_what_it_computes_alone(arms: list[dict[str, Any]]) -> None:
    specs = [spec(**arm) for arm in arms]
    together = [training(one) for one in specs]
    assert [refusal(one) for one in specs] == [None] * len(specs)
    assert len({alike(one) for one in together}) == len({kind(one) for one in specs}) == 1
    ensemble = Ensemble(together)
    for _ in range(STEPS):
        ensemble.step()
    rounding = ROUNDING
    if (
        specs[0].train.precision == "bf16" or specs[0].optimizer.kind == "muon"
    ):  # it is computed in bf16
        rounding = 0.02
    for one, found in zip(specs, together, strict=True):
        alone = trained(one)
        assert losses(found) == pytest.approx(losses(alone), rel=rounding)
        assert found.images == alone.images
        found_rows, rows = (t.learner.tally for t in (found, alone))
        found_rows.merge(found.world)
        rows.merge(alone.world)
        assert [row[1] for row in found_rows.read()] == [row[1] for row in rows.read()]
        mine, theirs = (
            torch.cat([p.flatten() for p in each.average.network.parameters()])
            for each in (found, alone)
        )
        assert float((mine - theirs).norm() / theirs.norm()) < 5 * rounding


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"model": UNET | {"dropout": 0.1}}, "dropout"),
        ({"train": {"kimg": 2.56, "batch_size": 64, "precision": "fp16"}}, "fp16"),
        ({"train": {"kimg": 2.56, "batch_size": 64, "gns": True}}, "train.gns"),
        ({"train": {"kimg": 2.56, "batch_size": 64, "checkpointing": True}}, "checkpointing"),
        ({"diffusion": {"schedule": {"kind": "learned"}}}, "schedule"),
    ],
)
def test_who_cannot_share_a_program_says_why(values: dict[str, Any], why: str) -> None:
    assert why in (refusal(spec(**values)) or "")


@pytest.mark.parametrize(
    "values",
    [
        {"model": UNET | {"channels": [16, 48]}},
        {"train": {"kimg": 2.56, "batch_size": 32}},
        {"train": {"kimg": 2.56, "batch_size": 64, "precision": "bf16"}},
        {"diffusion": {"objective": {"kind": "hybrid"}}},
    ],
    ids=["network", "batch", "precision", "output channels"],
)
def test_who_is_not_alike(values: dict[str, Any]) -> None:
    assert alike(training(spec())) != alike(training(spec(**values)))
    assert kind(spec()) != kind(spec(**values))


def test_a_member_that_diverges_touches_no_other() -> None:
    """To the last bit: one ensemble with it, and one with a good member in its place."""
    found = []
    for second in (ASTRAY, {"lr": 1e-3}):
        members = [training(spec(seed=1)), training(spec(optimizer=second))]
        ensemble = Ensemble(members)
        for _ in range(STEPS):
            ensemble.step()
        found.append([losses(one) for one in members])
    assert found[0][0] == found[1][0]
    assert not all(torch.isfinite(torch.tensor(found[0][1])))


def test_where_memory_runs_out_each_half_has_a_program_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing has moved by what did not fit."""
    import trainer.ensemble as module

    members = [training(spec(seed=seed)) for seed in range(4)]
    ensemble, asked = Ensemble(members), list[int]()
    answers = module._Program._answers

    def tight(program: Any, questions: Any) -> Any:
        asked.append(len(questions))
        if len(questions) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return answers(program, questions)

    monkeypatch.setattr(module._Program, "_answers", tight)
    for _ in range(STEPS):
        ensemble.step()
    for one in members:
        one.check()
    assert asked == [4] + [2, 2] * STEPS
    for one in members:
        assert losses(one) == pytest.approx(losses(trained(one.trial)), rel=ROUNDING)


@pytest.mark.parametrize("where", ["draw", "examples", "move", "moved"])
def test_an_error_of_one_is_its_own(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in its step: the others have taken theirs once, as if it had not been there."""
    members = [training(spec(seed=seed)) for seed in range(3)]
    ensemble = Ensemble(members)
    ensemble.step()

    def fails(*_: Any) -> Any:
        raise OSError("its own trouble")

    place = members[1] if where in ("draw", "moved") else members[1].update
    monkeypatch.setattr(place, where, fails)
    ensemble.step()
    with pytest.raises(OSError, match="its own trouble"):
        members[1].check()
    for one in members:
        one.check()
    for number in (0, 2):
        lone = training(spec(seed=number))
        lone.step()
        lone.step()
        assert losses(members[number]) == pytest.approx(losses(lone), rel=ROUNDING)
        assert members[number].images == lone.images
        mine, theirs = (
            torch.cat([p.detach().flatten() for p in one.learner.parameters()])
            for one in (members[number], lone)
        )
        assert float((mine - theirs).norm() / theirs.norm()) < 5 * ROUNDING


def test_who_dissolves_an_ensemble_frees_it() -> None:
    """Without Python's collector: on a GPU the next one needs the room."""
    members = [training(spec(seed=seed)) for seed in range(2)]
    ensemble = Ensemble(members)
    ensemble.step()
    (program,) = ensemble._programs
    stack = weakref.ref(next(iter(program._parameters.values())))  # type: ignore[union-attr]
    gc.disable()
    try:
        ensemble.dissolve()
        assert stack() is None
    finally:
        gc.enable()


def test_weights_are_a_trainings_own_after_it(tmp_path: Path) -> None:
    """In a checkpoint they are at any time: a file would keep the whole stack."""
    members = [training(spec(seed=seed)) for seed in range(3)]
    ensemble = Ensemble(members)
    ensemble.step()
    sizes = []
    for state in (members[0].state(), trained(spec(seed=0)).state()):
        torch.save(state["learner"], tmp_path / "file")
        sizes.append((tmp_path / "file").stat().st_size)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    ensemble.dissolve()
    before = [p.clone() for p in members[1].learner.parameters()]
    members[0].step()
    assert all(map(torch.equal, before, members[1].learner.parameters()))


def test_weights_lie_in_the_stack_as_they_lay_before() -> None:
    """Channels last, as compiled networks have them on a GPU: moments lie so, too, and fused kernels go by that."""
    members = [training(spec(seed=seed)) for seed in range(2)]
    for one in members:
        one.learner.network.to(memory_format=torch.channels_last)
    before = [p.stride() for p in members[0].learner.parameters()]
    ensemble = Ensemble(members)
    for _ in range(3):
        ensemble.step()
    assert [p.stride() for p in members[0].learner.parameters()] == before
    for moment, parameter in (
        (state["exp_avg"], p) for p, state in members[1].optimizer.state.items()
    ):
        assert moment.stride() == parameter.stride()
    assert any(
        p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
        for p in members[1].learner.parameters()
        if p.ndim == 4
    )
    assert losses(members[0]) == pytest.approx(losses(trained(spec(seed=0)))[:3], rel=ROUNDING)


# --- whole trainings -------------------------------------------------------------------


def run(
    specs: dict[int, TrialSpec], where: Path, leave: Told = lambda: False, due: Due | None = None
) -> dict[int, list[Any]]:
    """What is told of each, trained as one program."""

    at, due = even(where / str(i) for i in specs), due or Due(0.0, is_shared=True)

    def member(i: int, told: Told) -> Stepwise:
        return stepwise(
            specs[i],
            where / str(i),
            cache=where.parent,
            device="cpu",
            leave=told,
            due=due,
            even_at=at,
        )

    members = {i: partial(member, i) for i in specs}
    heard: dict[int, list[Any]] = {i: [] for i in specs}
    with Together(members, CPU, leave, joint=True, between=due.tick) as words:
        for i, word in words:
            heard[i].append(word)
    return heard


def numbers(report: Report) -> Any:
    metrics = {k: v for k, v in report.metrics.items() if not k.startswith("sys/")}
    return report.images, metrics, report.series, report.levels


def test_reports_are_those_of_the_lone_run_and_one_that_ends_early_leaves_the_others(
    tmp_path: Path,
) -> None:
    toy = {"kimg": 6.4, "batch_size": 64}
    specs = {
        0: spec(train=toy, seed=0),
        1: spec(train=toy | {"kimg": 2.56}, seed=1),
        2: spec(train=toy, seed=2, model=UNET | {"dropout": 0.1}),
        3: spec(train=toy, seed=3),
        4: spec(train=toy, optimizer=ASTRAY),
    }
    heard = run(specs, tmp_path / "together")
    for i, one in specs.items():
        alone = list(train(one, tmp_path / f"alone-{i}", cache=tmp_path, device="cpu"))
        *reports, last = heard[i]
        assert isinstance(last, Ended)
        assert [r.images for r in reports] == [r.images for r in alone]
        assert [r.failure is None for r in reports] == [r.failure is None for r in alone]
        result, expected = Record(tmp_path / "together" / str(i)).result(), alone[-1]
        assert result is not None
        if i == 2:
            assert [numbers(r) for r in reports] == [numbers(r) for r in alone], "it steps alone"
        elif i != 4:
            assert result.metrics["eval/fid"] == pytest.approx(
                expected.metrics["eval/fid"], rel=1e-2
            )
            assert reports[0].metrics["train/loss"] == pytest.approx(
                alone[0].metrics["train/loss"], rel=ROUNDING
            )
    assert Record(tmp_path / "together" / "4").result().status == "diverged"  # type: ignore[union-attr]


def test_seconds_are_shared(tmp_path: Path) -> None:
    """Each counts its part of a step and nothing of the others' evaluations: together, no more than passed."""
    began = time.perf_counter()
    run({i: spec(seed=i) for i in range(4)}, tmp_path / "together")
    passed = time.perf_counter() - began
    results = [Record(tmp_path / "together" / str(i)).result() for i in range(4)]
    seconds = [one.seconds for one in results if one is not None]
    assert len(seconds) == 4
    assert sum(seconds) < passed
    assert max(seconds) < 2.0 * min(seconds)


def test_it_resumes_to_the_last_bit(tmp_path: Path) -> None:
    toy = {"kimg": 6.4, "batch_size": 64}
    specs = {i: spec(train=toy, seed=i) for i in range(3)}
    whole = run(specs, tmp_path / "whole")
    steps = 0

    def soon() -> bool:
        nonlocal steps
        steps += 1
        return steps > 100

    cut = run(specs, tmp_path / "cut", leave=soon)
    rest = run(specs, tmp_path / "cut")
    for i in specs:
        assert not isinstance(cut[i][-1], Ended)
        told = [one for one in [*cut[i], *rest[i]] if isinstance(one, Report)]
        expected = [one for one in whole[i] if isinstance(one, Report)]
        assert numbers(told[-1])[:2] == numbers(expected[-1])[:2]
        assert [r.images for r in told] == [r.images for r in expected]


def test_checkpoints_between_evaluations_are_at_the_same_images_and_trainings_begin_again_there(
    tmp_path: Path,
) -> None:
    """One was kept and the other not yet, when all were killed."""
    due = Due(0.0, is_shared=True)
    due.tick()
    assert due.count == 1
    due.written(0.0)
    assert due.count == 1, "between steps alone"
    due = Due(3600.0)
    due.tick()
    assert due.count == 0

    toy = {"kimg": 3.2, "batch_size": 64}
    specs = {i: spec(train=toy, seed=i) for i in range(2)}
    whole = run(specs, tmp_path / "whole")
    steps, due = 0, Due(3600.0, is_shared=True)

    def soon() -> bool:
        nonlocal steps
        steps += 1
        due.count = int(steps > 20)  # the clock says so once
        return steps > 41

    run(specs, tmp_path / "cut", leave=soon, due=due)
    ahead = checkpoints(tmp_path / "cut" / "1")[-1]
    shutil.rmtree(ahead)
    left = [images_of(checkpoints(tmp_path / "cut" / str(i))[-1]) for i in specs]
    assert left[0] > left[1] == even(tmp_path / "cut" / str(i) for i in specs)
    assert left[1] in map(images_of, checkpoints(tmp_path / "cut" / "0"))
    rest = run(specs, tmp_path / "cut")
    for i in specs:
        mine, theirs = (numbers(of[i][-2]) for of in (rest, whole))
        assert mine[:2] == theirs[:2]


def test_who_steps_with_whom_can_be_asked(tmp_path: Path) -> None:
    specs = {
        "a": spec(seed=0),
        "b": spec(seed=1),
        "c": spec(model=UNET | {"dropout": 0.1}),
        "d": spec(model=UNET | {"channels": [8, 8]}),
    }

    def member(name: str, leave: Told) -> Stepwise:
        return stepwise(specs[name], tmp_path / name, cache=tmp_path, device="cpu", leave=leave)

    together = Together({name: partial(member, name) for name in specs}, CPU, joint=True)
    with together as words:
        next(words)
        found = together.shared()
    assert found["a", "b"] == ""
    assert "dropout" in found["c",]
    assert found["d",] == "no other is like it"
