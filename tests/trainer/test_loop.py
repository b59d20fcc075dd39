"""Proves the loop's promises: exact resume, common random numbers, elasticity, divergence as a result."""

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.distributed import World
from trainer.errors import CheckpointError, UserError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.generation import Generation, generate
from trainer.inputs import Labels
from trainer.learner import Learner, build_network
from trainer.loop import train
from trainer.randomness import Stream
from trainer.record import Record
from trainer.report import Report
from trainer.trial import TrialSpec

REMEMBERING = {
    "schedule": {"kind": "cosine", "steps": 20},
    "timesteps": {"kind": "loss_second_moment", "history_per_term": 4},
}
"""Warm after some 300 images: the toy trial trains on its memory."""
LEARNED = {"schedule": {"kind": "learned"}, "objective": {"kind": "vlb"}}
STEPS = {
    "optimizer": {"kind": "muon", "lr": 1e-3},
    "ema": [{"kind": "ramp", "decay": 0.9}, {"kind": "power", "snapshots": 4}],
    "train__precision": "fp16",
    "train__gns": True,
    "train__microbatch": 16,
}
"""What else a step may do."""
TIMINGS = ("sys/img_per_s", "sys/eval_s")


def trial(toy: dict[str, Any], **overrides: Any) -> TrialSpec:
    values = copy.deepcopy(toy)
    for path, value in overrides.items():
        *parents, last = path.split("__")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return TrialSpec.model_validate(values)


def run(spec: TrialSpec, directory: Path, **options: Any) -> list[Report]:
    cache = directory.parent / "cache"
    return list(train(spec, directory, cache=cache, device="cpu", **options))


def numbers(reports: list[Report]) -> list[Any]:
    """Everything but the clock."""
    return [
        (
            r.images,
            {k: v for k, v in r.metrics.items() if k not in TIMINGS},
            r.series,
            r.draws,
            r.levels,
        )
        for r in reports
    ]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    newest = sorted(directory.glob("checkpoint-*"))[-1]
    tensors = torch.load(newest / "state.pt", weights_only=True)
    return {**tensors["learner"], **{f"ema.{k}": v for k, v in tensors["average"].items()}}


def test_curves_fall_and_the_result_is_written(toy: dict[str, Any], tmp_path: Path) -> None:
    rung = {"images": 512, "steps": 8}
    spec = trial(toy, train__kimg=12.8, evaluation__rung=rung, evaluation__spacing="doubling")
    assert spec.evaluation_points() == [1600, 3200, 6400, 12800]
    reports = run(spec, tmp_path / "a")
    assert [r.images for r in reports] == spec.evaluation_points()
    assert reports[-1].metrics["rung/fid"] < 0.3 * reports[0].metrics["rung/fid"]
    assert "eval/fid" in reports[-1].metrics
    assert "eval/fid" not in reports[0].metrics
    result = Record(tmp_path / "a").result()
    assert result is not None
    assert result.status == "finished"
    assert result.images == spec.total_images()
    assert result.curves["rung/fid"] == [
        spec.evaluation_points(),
        [r.metrics["rung/fid"] for r in reports],
    ]
    assert result.protocol["eval/fid"] != result.protocol["rung/fid"]
    assert (tmp_path / "a" / str(reports[-1].sample_png)).exists()
    dense = [point for r in reports for point in r.series]
    assert dense[-1][0] == spec.total_images()
    assert len(dense) == 100
    assert Record(tmp_path / "a").reports() == reports


def test_a_trial_repeats_itself(toy: dict[str, Any], tmp_path: Path) -> None:
    spec = trial(toy)
    assert numbers(run(spec, tmp_path / "a")) == numbers(run(spec, tmp_path / "b"))
    other = run(trial(toy, seed=1), tmp_path / "c")
    assert numbers(other) != numbers(run(spec, tmp_path / "d"))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_resume_is_exact(toy: dict[str, Any], tmp_path: Path, stop_after: int) -> None:
    spec = trial(toy, train__log_every_kimg=0.2)
    whole = run(spec, tmp_path / "whole")
    loop = train(spec, tmp_path / "cut", cache=tmp_path / "cache", device="cpu")
    for _ in range(stop_after):
        next(loop)
    loop.close()
    rest = run(spec, tmp_path / "cut")
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)
    assert numbers(rest) == numbers(whole)[stop_after:]
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "cut")[name]), name


def test_resume_between_reports_is_exact(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint in the middle of an interval carries the open part of the loss curve."""
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
        run(spec, tmp_path / "cut", checkpoint_every_s=0.0)
    monkeypatch.undo()
    assert saved[0] < 2560
    assert numbers(run(spec, tmp_path / "cut")) == numbers(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from trainer import loop
from trainer.record import Record
from trainer.trial import TrialSpec
name, when = sys.argv[3], int(sys.argv[4])
keep, count = getattr(Record, name), 0
def counted(*arguments, **options):
    global count
    count += 1
    if count == when:
        os.kill(os.getpid(), signal.SIGKILL)
    return keep(*arguments, **options)
setattr(Record, name, counted)
trial = TrialSpec.model_validate_json(sys.argv[1])
for report in loop.train(trial, Path(sys.argv[2]), cache=Path(sys.argv[2]).parent / "cache", device="cpu"):
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "when", "left"),
    [("save_checkpoint", 3, 2), ("save_checkpoint", 4, 1), ("write_result", 1, 1)],
    ids=["third checkpoint", "last checkpoint", "result"],
)
def test_kill_minus_nine_loses_nothing(
    toy: dict[str, Any], tmp_path: Path, before: str, when: int, left: int
) -> None:
    """SIGKILL just before a file is written, when the report it belongs to is on disk already."""
    spec = trial(toy)
    whole = run(spec, tmp_path / "whole")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, spec.canonical(), str(tmp_path / "cut"), before, str(when)],
        check=False, timeout=120,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert Record(tmp_path / "cut").result() is None
    rest = run(spec, tmp_path / "cut")
    assert [r.images for r in rest] == spec.evaluation_points()[-left:]
    assert rest[-1].done
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)
    result, expected = Record(tmp_path / "cut").result(), Record(tmp_path / "whole").result()
    assert result is not None
    assert expected is not None
    assert (result.status, result.images, result.protocol) == ("finished", 2560, expected.protocol)
    assert result.metrics["eval/fid"] == expected.metrics["eval/fid"]
    assert result.draws == expected.draws


def test_a_trial_pauses_where_it_is_told_and_goes_on_as_if_it_never_had(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    whole = run(trial(toy), tmp_path / "whole")
    record = Record(tmp_path / "paused")

    begun = run(trial(toy), record.directory, until_images=700)
    assert [report.images for report in begun] == [640, 1280], "the first at or beyond 700"
    assert (record.result(), record.images()) == (None, 1280), "its checkpoint is kept"
    assert run(trial(toy), record.directory, until_images=1280) == [], "it is there already"
    rest = run(trial(toy), record.directory, until_images=2560)

    assert numbers(begun + rest) == numbers(whole)
    assert record.result() is not None


def test_a_checkpoint_between_two_evaluations_is_not_as_far_as_the_second(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """Interrupted beyond 700 images, before the evaluation at 1280: that one is still to come."""
    reports = train(
        trial(toy), tmp_path / "x", cache=tmp_path / "c", device="cpu", checkpoint_every_s=0.0
    )
    next(reports)
    record = Record(tmp_path / "x")
    state, _ = record.newest_state(torch.device("cpu"))
    assert state is not None
    state["progress"]["images"] = 832
    record.save_checkpoint(832, state)
    reports.close()

    again = run(trial(toy), record.directory, until_images=700)

    assert [report.images for report in again] == [1280]


def test_a_damaged_result_is_made_again(toy: dict[str, Any], tmp_path: Path) -> None:
    spec = trial(toy)
    whole = run(spec, tmp_path / "a")
    (tmp_path / "a" / "result.json").write_text("{")
    assert Record(tmp_path / "a").result() is None
    assert numbers(run(spec, tmp_path / "a")) == numbers(whole)[-1:]
    assert Record(tmp_path / "a").result() is not None
    assert len(list((tmp_path / "a").glob("checkpoint-*"))) == 1


def test_a_diverged_trial_diverges_again_after_a_kill(toy: dict[str, Any], tmp_path: Path) -> None:
    """No checkpoint holds the broken weights, so what is repeated ends the same way."""
    spec = trial(toy, optimizer={"lr": 1000.0, "kind": "sgd", "grad_clip": None})
    first = run(spec, tmp_path / "a")
    (tmp_path / "a" / "result.json").unlink()
    again = run(spec, tmp_path / "a")
    assert (again[-1].images, again[-1].failure) == (first[-1].images, first[-1].failure)
    assert not list((tmp_path / "a").glob("checkpoint-*"))


def test_a_directory_keeps_its_trial(toy: dict[str, Any], tmp_path: Path) -> None:
    run(trial(toy), tmp_path / "a")
    with pytest.raises(UserError, match="holds another trial"):
        run(trial(toy, seed=1), tmp_path / "a")


def test_a_checkpoint_of_another_trial_is_not_continued(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """Even where nothing says any more whose directory it is."""
    run(trial(toy), tmp_path / "a")
    for name in ("trial.json", "result.json"):
        (tmp_path / "a" / name).unlink()
    with pytest.raises(CheckpointError, match="checkpoint is that of another trial"):
        run(trial(toy, seed=1), tmp_path / "a")


def test_a_trial_pauses_where_it_is_told_and_goes_on(toy: dict[str, Any], tmp_path: Path) -> None:
    """`until_images` ends it with the first evaluation at or beyond; no result, and nothing differs in the end."""
    spec = trial(toy)
    whole = run(spec, tmp_path / "whole")
    assert [r.images for r in run(spec, tmp_path / "cut", until_images=700)] == [640, 1280]
    assert Record(tmp_path / "cut").result() is None
    assert Record(tmp_path / "cut").images() == 1280
    assert run(spec, tmp_path / "cut", until_images=1280) == []
    assert [r.images for r in run(spec, tmp_path / "cut", until_images=2560)] == [1920, 2560]
    assert Record(tmp_path / "cut").result() is not None
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)


def test_time_is_counted_over_all_attempts(toy: dict[str, Any], tmp_path: Path) -> None:
    """A checkpoint between reports carries the seconds since the last report."""
    spec = trial(toy, train__log_every_kimg=0.192, evaluation__evaluations=1)
    run(spec, tmp_path / "a", checkpoint_every_s=0.0)
    saved = sorted((tmp_path / "a").glob("checkpoint-*"))
    progress = torch.load(saved[-1] / "state.pt", weights_only=True)["progress"]
    result = Record(tmp_path / "a").result()
    assert result is not None
    rate = Record(tmp_path / "a").reports()[-1].metrics["sys/img_per_s"]
    assert progress["seconds"] == result.seconds
    # writing checkpoints is not training, so the rate's seconds and the total are the same
    assert result.seconds == pytest.approx(2560 / rate, rel=0.5)


def test_cells_of_one_seed_share_their_randomness(toy: dict[str, Any], tmp_path: Path) -> None:
    """Two cells with the same function of u see the same loss stream; the starting weights are shared too."""
    plain = trial(toy)
    same = trial(toy, diffusion={"timesteps": {"kind": "p2", "gamma": 0.0}})
    other = trial(toy, diffusion={"timesteps": {"kind": "p2", "gamma": 1.0}})
    assert numbers(run(plain, tmp_path / "a")) == numbers(run(same, tmp_path / "b"))
    assert numbers(run(plain, tmp_path / "c")) != numbers(run(other, tmp_path / "d"))
    initial = [build_network(spec, (2,)).state_dict() for spec in (plain, other)]
    assert all(torch.equal(initial[0][name], initial[1][name]) for name in initial[0])


def test_evaluation_does_not_advance_the_training(toy: dict[str, Any], tmp_path: Path) -> None:
    few = run(trial(toy, evaluation__evaluations=1), tmp_path / "few")
    many = run(trial(toy, evaluation__evaluations=8), tmp_path / "many")
    few_loss = [point for r in few for point in r.series]
    assert few_loss == [point for r in many for point in r.series]
    assert few[-1].metrics["eval/fid"] == many[-1].metrics["eval/fid"]


def test_accumulation_changes_only_the_order_of_sums(toy: dict[str, Any], tmp_path: Path) -> None:
    spec = {"train__kimg": 0.64}
    whole = run(trial(toy, **spec), tmp_path / "whole")
    cut = run(trial(toy, **spec, train__microbatch=24), tmp_path / "cut")
    # float32 sums in another order over ten AdamW steps
    for a, b in zip(whole, cut, strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=1e-4)


def test_divergence_is_a_result(toy: dict[str, Any], tmp_path: Path) -> None:
    spec = trial(toy, optimizer={"lr": 1000.0, "kind": "sgd", "grad_clip": None})
    reports = run(spec, tmp_path / "a")
    assert reports[-1].done
    assert "diverged" in str(reports[-1].failure)
    assert "kimg" in str(reports[-1].failure)
    result = Record(tmp_path / "a").result()
    assert result is not None
    assert result.status == "diverged"
    assert result.images < spec.total_images()


def test_model_that_does_not_fit_the_data_is_explained(toy: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use kind: mlp"):
        run(trial(toy, model={"kind": "unet"}), tmp_path / "a")
    deep = {"kind": "unet", "channels": [8, 8, 8, 8, 8]}
    with pytest.raises(UserError, match="sides divisible by 16, the images are 8 x 8"):
        run(trial(toy, data={"kind": "digits"}, model=deep), tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{}, {"diffusion": REMEMBERING}, {"diffusion": LEARNED}, STEPS],
    ids=["plain", "loss_second_moment", "learned", "fp16, muon, noise scale, averages"],
)
@pytest.mark.parametrize("workers", [2])
def test_torchrun_sees_the_same_examples(
    toy: dict[str, Any], tmp_path: Path, workers: int, settings: dict[str, Any]
) -> None:
    """`torchrun -m trainer` on two gloo workers agrees with one process to float32 reduction order."""
    spec = trial(toy, train__kimg=0.64, **settings)
    file = tmp_path / "trial.yaml"
    file.write_text(json.dumps(spec.model_dump(mode="json")))
    alone = run(spec, tmp_path / "alone")
    subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}",
            "-m", "trainer", str(file), "--out", str(tmp_path / "many"), "--cache", str(tmp_path / "cache"),
            "--device", "cpu",
        ],
        check=True, timeout=240, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PET_LOG_DIR": str(tmp_path / "logs")},
    )  # fmt: skip
    together = Record(tmp_path / "many").reports()
    assert [r.images for r in together] == [r.images for r in alone]
    for a, b in zip(alone, together, strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=1e-4)
        assert a.metrics["rung/fid"] == pytest.approx(b.metrics["rung/fid"], rel=2e-3)
        noise = [report.metrics.get("train/gns", 0.0) for report in (a, b)]
        assert noise[0] == pytest.approx(noise[1], rel=0.01)
        assert [row[:2] for row in a.levels] == [row[:2] for row in b.levels]
        for row, other in zip(a.levels, b.levels, strict=True):
            assert row[2:4] == pytest.approx(other[2:4], rel=1e-4)
    assert together[-1].draws["eval/fid"] == pytest.approx(alone[-1].draws["eval/fid"], rel=2e-3)


def test_labels_condition_and_guide(toy: dict[str, Any], tmp_path: Path) -> None:
    """Label dropout is really applied, and guidance moves samples towards their class's mode."""
    labelled = trial(
        toy,
        model={"kind": "mlp", "width": 64, "depth": 2, "classes": 8},
        train={"kimg": 64.0, "batch_size": 64, "label_dropout": 0.2},
        evaluation__evaluations=1,
    )
    run(labelled, tmp_path / "a")
    source = labelled.data.load(Path())
    network = build_network(labelled, source.codec.shape)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    newest = sorted((tmp_path / "a").glob("checkpoint-*"))[-1]
    network.load_state_dict(torch.load(newest / "state.pt", weights_only=True)["average"])
    embedded = next(name for name in initial if "labels" in name)
    moved = (network.state_dict()[embedded] != initial[embedded]).any(1)
    assert moved.all(), "every label, and the hidden one, was trained"
    x = {
        scale: generate(
            network,
            labelled.diffusion,
            source.codec,
            Generation.model_validate({"images": 256, "steps": 12, "guidance": {"scale": scale}}),
            range(256),
            0,
            [Labels(classes=8)],
        )
        for scale in (0.0, 2.0)
    }
    wanted = source.codec.label(Stream(0, "generate/label").uniform(torch.arange(256)))
    rows = torch.arange(len(source))
    examples, labels = source.read(rows), source.labels_of(rows)
    means = torch.stack([examples[labels == c].mean(0) for c in range(8)])
    hits = {scale: (torch.cdist(v, means).argmin(1) == wanted) for scale, v in x.items()}
    # eight modes: chance is 1/8
    assert float(hits[0.0].float().mean()) > 0.9
    assert not torch.equal(x[0.0], x[2.0])


def test_label_options_that_cannot_work_are_refused(toy: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set model\.classes"):
        trial(toy, train__label_dropout=0.1)
    with pytest.raises(ValueError, match=r"evaluation\.full\.guidance: .*set it to 0\.1"):
        trial(toy, model__classes=8, evaluation__full__guidance={"scale": 1.0})
    with pytest.raises(UserError, match="3 is too few, the data has 8 classes"):
        run(trial(toy, model__classes=3), tmp_path / "a")


@pytest.mark.parametrize(
    "diffusion",
    [
        {"objective": {"kind": "hybrid"}},
        {"objective": {"kind": "learned_uncertainty"}},
        {"prediction": {"kind": "both"}},
        {"timesteps": {"kind": "uniform", "draw": "antithetic"}},
        REMEMBERING,
        LEARNED,
        {**LEARNED, "conditioning": "time"},
    ],
)
def test_members_with_more_outputs_or_weights_train_and_resume(
    toy: dict[str, Any], tmp_path: Path, diffusion: dict[str, Any]
) -> None:
    spec = trial(toy, diffusion=diffusion)
    whole = run(spec, tmp_path / "whole")
    loop = train(spec, tmp_path / "cut", cache=tmp_path / "cache", device="cpu")
    next(loop)
    loop.close()
    run(spec, tmp_path / "cut")
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)


def test_loss_second_moment_is_uniform_until_warm(toy: dict[str, Any], tmp_path: Path) -> None:
    """Then it leaves; its memory grows by every image, and the metrics show the warm-up."""
    every = {"train__log_every_kimg": 0.064}
    learning = run(trial(toy, diffusion=REMEMBERING, **every), tmp_path / "a")
    plain = run(
        trial(toy, diffusion={"schedule": REMEMBERING["schedule"]}, **every), tmp_path / "b"
    )
    curve = [point for r in learning for point in r.series]
    uniform = [point for r in plain for point in r.series]
    warm = next(i for i, (_, values) in enumerate(curve) if values["train/warmup"] == 1.0)
    assert 0 < warm < 15
    assert [v["train/loss"] for _, v in curve[: warm + 1]] == [
        v["train/loss"] for _, v in uniform[: warm + 1]
    ]
    assert curve[warm + 1][1]["train/loss"] != uniform[warm + 1][1]["train/loss"]
    assert "train/warmup" in learning[-1].metrics
    assert int(weights(tmp_path / "a")["timesteps.seen"].sum()) == 2560


def test_the_memory_does_not_know_how_the_batch_was_divided(toy: dict[str, Any]) -> None:
    """Passes over parts of a batch, on this worker or another, leave the memory of one pass over all of it."""
    spec = trial(toy, diffusion=REMEMBERING)
    source = spec.data.load(Path())
    whole, parts = (Learner(spec, source.codec.shape) for _ in range(2))
    for first in range(0, 640, 64):
        index = torch.arange(first, first + 64)
        x0 = source.codec.scale(source.read(index % len(source)))
        whole(x0, index, {})
        whole.observe(World(0, 1))
        for share in (slice(0, 24), slice(24, 48), slice(48, 64)):
            parts(x0[share], index[share], {})
        parts.observe(World(0, 1))
    assert bool(whole.timesteps.warm())
    assert torch.equal(whole.timesteps.seen, parts.timesteps.seen)
    # float32 sums over batches of other sizes
    torch.testing.assert_close(whole.timesteps.losses, parts.timesteps.losses, rtol=1e-5, atol=0.0)


def test_a_learned_schedule_generates_on_what_it_has_learned(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """`grid: null` follows the current network; weight decay does not pull it; the metrics show its ends."""
    toy["evaluation"]["full"]["grid"] = None
    decay = {"lr": 3e-3, "weight_decay": 0.1}
    spec = trial(toy, diffusion=LEARNED, train__kimg=6.4, optimizer=decay)
    reports = run(spec, tmp_path / "a")
    final = weights(tmp_path / "a")
    assert reports[-1].metrics["train/log_snr_max"] == float(final["schedule.clean"])
    assert final["schedule.network.b1"] == 0.0
    assert final["schedule.network.w1"] != 1.0
    source = spec.data.load(Path())
    learner = Learner(spec, source.codec.shape)
    start = learner.diffusion.schedule.grid(8)
    learner.load_state_dict({k: v for k, v in final.items() if not k.startswith("ema.")})
    moved = learner.diffusion.schedule.grid(8)
    assert float(moved[0]) == pytest.approx(float(final["schedule.noisy"]), abs=1e-5)
    assert float((moved - start).abs().max()) > 0.1
    evaluator = Evaluator(spec.evaluation, learner.diffusion, source, tmp_path / "cache")
    network = copy.deepcopy(learner.network)
    network.load_state_dict({k[4:]: v for k, v in final.items() if k.startswith("ema.")})
    again = evaluator.measure(network.eval(), "full", World(0, 1))
    assert again.metrics["eval/fid"] == reports[-1].metrics["eval/fid"]
