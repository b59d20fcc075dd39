"""Proves that a model that left as a diffusers folder comes back as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainer.exchange.models import labelled, spec, trained
from trainer.errors import UserError
from trainer.exchange.card import Story
from trainer.exchange.foreign import is_folder_of_diffusers
from trainer.exchange.incoming import take_in
from trainer.exchange.inferring import inferred
from trainer.exchange.pipeline import export
from trainer.exchange.returning import origin_of
from trainer.exchange.sampling import Wanted, draw
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec

diffusers = pytest.importorskip("diffusers")

DDPM: dict[str, Any] = {"layout": "ddpm", "embedding": 8, "attention": [0]}
CASES = {
    "table of angles": labelled(model=DDPM),
    "sinusoids of time": spec(
        model=DDPM | {"resample": "residual"}, diffusion={"conditioning": "time"}
    ),
    "fewer sinusoids": spec(model=DDPM | {"embedding": 6, "heads": 1}),
    "own code": labelled(),
    "own code, flow": spec(
        diffusion={"prediction": {"kind": "flow"}, "schedule": {"kind": "interpolant"}}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_comes_back_as_it_left(name: str, tmp_path: Path) -> None:
    before = Trained.load(trained(CASES[name], tmp_path / "trial"), "cpu")
    export(before, tmp_path / "out", Story("x"))
    assert is_folder_of_diffusers(tmp_path / "out")
    trial = origin_of(tmp_path / "out")
    assert trial == before.trial
    assert trial is not None
    assert take_in(tmp_path / "out", trial, tmp_path / "again") == []
    after = Trained.load(tmp_path / "again", "cpu")
    assert after.codec == before.codec
    assert after.fingerprint == before.fingerprint
    ours, theirs = before.network.state_dict(), after.network.state_dict()
    for key, value in ours.items():
        # a layer that was turned and turned back: float32 rounding
        torch.testing.assert_close(theirs[key], value, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(after.sample(2), before.sample(2), rtol=0.0, atol=0.13)


LEARNED = spec(
    diffusion={
        "schedule": {"kind": "learned", "log_snr_max": 9.0, "log_snr_min": -6.0},
        "conditioning": "log_snr",
    }
)


def test_what_the_schedule_learned_comes_back(tmp_path: Path) -> None:
    record = Record(trained(LEARNED, tmp_path / "trial"))
    state, _ = record.newest_state(torch.device("cpu"))
    assert state is not None
    bent = next(name for name in state["learner"] if name.startswith("schedule."))
    state["learner"][bent] += 1.0  # as after a longer training
    record.save_checkpoint(97, state)
    before = Trained.load(record, "cpu")
    export(before, tmp_path / "out", Story("x"))
    take_in(tmp_path / "out", LEARNED, tmp_path / "again")
    after = Trained.load(tmp_path / "again", "cpu")
    assert set(after.learned) == set(before.learned)
    for name, value in before.learned.items():
        assert torch.equal(after.learned[name], value)
    times = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
    with torch.no_grad():
        at_start = LEARNED.diffusion.schedule.log_snr(times)
        assert not torch.allclose(after.diffusion.schedule.log_snr(times), at_start, atol=0.1)


def test_a_learned_schedule_that_stayed_behind_is_refused(tmp_path: Path) -> None:
    export(Trained.load(trained(LEARNED, tmp_path / "trial"), "cpu"), tmp_path / "out", Story("x"))
    (tmp_path / "out" / "diffsweep.safetensors").unlink()
    with pytest.raises(UserError, match="does not say what"):
        take_in(tmp_path / "out", LEARNED, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_variance_that_stayed_behind_is_told(tmp_path: Path) -> None:
    trial = spec(model=DDPM, diffusion={"objective": {"kind": "hybrid"}})
    before = Trained.load(trained(trial, tmp_path / "trial"), "cpu")
    export(before, tmp_path / "out", Story("x"))
    (note,) = take_in(tmp_path / "out", trial, tmp_path / "again")
    assert "learned variance stayed behind" in note
    after = Trained.load(tmp_path / "again", "cpu")
    torch.testing.assert_close(after.sample(2), before.sample(2), rtol=0.0, atol=0.13)


THEIRS: dict[str, Any] = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4, "attention_head_dim": None, "attn_norm_num_groups": 4,
}  # fmt: skip
"""What `OURS` is in diffusers' words."""
OURS = {"layout": "ddpm", "embedding": 8, "embedding_multiplier": 4, "heads": 1, "attention": [1]}


def theirs(folder: Path, scheduler: dict[str, Any] | None = None, **config: Any) -> Path:
    """A folder as diffusers itself writes it, of a network with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(**THEIRS | config)
        with torch.no_grad():
            for parameter in unet.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    unet.save_pretrained(folder / "unet")
    diffusers.DDPMScheduler(**scheduler or {}).save_pretrained(folder / "scheduler")
    return folder


def as_ours(conditioning: str = "step", **diffusion: Any) -> TrialSpec:
    schedule = {"kind": "linear_beta", "steps": 1000}
    return spec(
        model=OURS, diffusion={"schedule": schedule, "conditioning": conditioning} | diffusion
    )


def test_a_network_from_elsewhere_answers_as_it_did_or_is_refused(tmp_path: Path) -> None:
    plain = theirs(tmp_path / "plain")
    assert take_in(plain, as_ours(), tmp_path / "model") == []
    for number, config in enumerate(
        ({"flip_sin_to_cos": False, "freq_shift": 1}, {"norm_eps": 0.1}, {"mid_block_scale_factor": 2.0},
         {"act_fn": "relu"}, {"attention_head_dim": 4})
    ):  # fmt: skip
        folder = theirs(tmp_path / f"folder{number}", **config)
        with pytest.raises(
            UserError, match=r"answers otherwise .* by 0\.\d+ .*kind: diffusers_unet"
        ):
            take_in(folder, as_ours(), tmp_path / f"model{number}")
        assert not (tmp_path / f"model{number}").exists()
    with pytest.raises(UserError, match="conditioning: angle is not what these networks were told"):
        take_in(plain, as_ours("angle"), tmp_path / "angle")


def test_a_scheduler_that_says_otherwise_is_heard(tmp_path: Path) -> None:
    v = theirs(tmp_path / "v", {"prediction_type": "v_prediction"})
    with pytest.raises(UserError, match=r"prediction_type: v_prediction: write \{kind: velocity\}"):
        take_in(v, as_ours(), tmp_path / "model")
    cosine = theirs(tmp_path / "cosine", {"beta_schedule": "squaredcos_cap_v2"})
    with pytest.raises(UserError, match=r"other noise levels than .*squaredcos_cap_v2"):
        take_in(cosine, as_ours(), tmp_path / "model")
    short = theirs(tmp_path / "short", {"num_train_timesteps": 500})
    with pytest.raises(UserError, match="num_train_timesteps: 500"):
        take_in(short, as_ours(), tmp_path / "model")
    (short / "scheduler" / "scheduler_config.json").unlink()
    (note,) = take_in(short, as_ours(), tmp_path / "model")
    assert "no scheduler with betas" in note


@pytest.mark.parametrize(
    ("scheduler", "kind", "prediction"),
    [
        ({}, "linear_beta", "epsilon"),
        (
            {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
            "cosine",
            "velocity",
        ),
        (
            {
                "beta_schedule": "scaled_linear",
                "prediction_type": "sample",
                "num_train_timesteps": 500,
            },
            "scaled_linear_beta",
            "data",
        ),
        ({"rescale_betas_zero_snr": True}, "modified", "epsilon"),
    ],
)
def test_a_folder_with_its_scheduler_is_a_trial(
    scheduler: dict[str, Any], kind: str, prediction: str, tmp_path: Path
) -> None:
    folder = theirs(tmp_path / "folder", scheduler, num_class_embeds=10)
    trial = inferred(folder)
    assert trial.model.kind == "diffusers_unet"
    assert (trial.diffusion.schedule.kind, trial.diffusion.prediction.kind) == (kind, prediction)
    (note,) = take_in(folder, trial, tmp_path / "model")
    assert "the data is not here" in note
    model = Trained.load(tmp_path / "model", "cpu")
    way = model.way(model.ask(labels=[3, 7]), torch.arange(2))
    x, level = torch.randn(2, 1, 8, 8), model.diffusion.schedule.table(len(way.grid))[0]
    assert torch.isfinite(way.denoise(x, level.expand(2))).all()


def test_what_a_folder_does_not_say_is_told(tmp_path: Path) -> None:
    folder = theirs(tmp_path / "sigmoid", {"beta_schedule": "sigmoid"})
    with pytest.raises(UserError, match=r"beta_schedule: sigmoid.*--as"):
        inferred(folder)
    folder = theirs(tmp_path / "sizeless", sample_size=None)
    with pytest.raises(UserError, match="no sample_size"):
        inferred(folder)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(UserError, match="no scheduler with betas"):
        inferred(folder)


def test_weights_that_are_no_numbers_go_nowhere(tmp_path: Path) -> None:
    folder = theirs(tmp_path / "folder")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.weight"][0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    for trial in (as_ours(), inferred(folder)):
        with pytest.raises(UserError, match=r"weights are not finite \(`.*\.weight`\)"):
            take_in(folder, trial, tmp_path / "model")
    record = Record(trained(spec(model=DDPM), tmp_path / "trial"))
    state, _ = record.newest_state(torch.device("cpu"))
    assert state is not None
    next(iter(state["average"].values())).fill_(float("inf"))
    record.save_checkpoint(97, state)
    with pytest.raises(UserError, match="weights are not finite"):
        export(Trained.load(record, "cpu"), tmp_path / "out", Story("x"))
    with pytest.raises(UserError, match="weights are not finite"):
        list(draw(record, Wanted(), lambda trial: trial, tmp_path / "samples", "cpu"))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "samples").exists()


@pytest.mark.parametrize("gone", ["attentions.0.to_k.weight", "time_embedding.linear_1.weight"])
def test_weights_that_are_missing_are_named(gone: str, tmp_path: Path) -> None:
    folder = theirs(tmp_path / "folder")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    kept = {name: v for name, v in load_file(file).items() if not name.endswith(gone)}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"lack `.*{gone}`"):
        take_in(folder, as_ours(), tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "said"), [("{", "no JSON"), ("[]", "no mapping"), ("{}", "_class_name")]
)
def test_configs_that_are_none(text: str, said: str, tmp_path: Path) -> None:
    folder = theirs(tmp_path / "folder")
    (folder / "unet" / "config.json").write_text(text)
    for take in (inferred, lambda at: take_in(at, as_ours(), tmp_path / "model")):
        with pytest.raises(UserError, match=said):
            take(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text("[]")
    with pytest.raises(UserError, match=r"no mapping|no JSON|_class_name"):
        take_in(folder, as_ours(), tmp_path / "model")


@pytest.mark.parametrize("name", ["own code", "own code, flow"])
def test_a_network_with_its_source_is_not_taken_for_another(name: str, tmp_path: Path) -> None:
    before = Trained.load(trained(CASES[name], tmp_path / "trial"), "cpu")
    export(before, tmp_path / "out", Story("x"))
    for changes, said in (
        ({"model": {"groups": 2}}, "model: "),
        ({"diffusion": {"conditioning": "log_snr"}}, "diffusion: .*`condition`"),
    ):
        data = before.trial.model_dump(mode="json")
        for section, change in changes.items():
            data[section] |= change
        with pytest.raises(UserError, match=said):
            take_in(tmp_path / "out", TrialSpec.model_validate(data), tmp_path / "again")


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    before = Trained.load(trained(spec(model=DDPM), tmp_path / "trial"), "cpu")
    export(before, tmp_path / "out", Story("x"))
    wider = spec(model=DDPM | {"channels": [16, 16]})
    with pytest.raises(UserError, match="does not fit"):
        take_in(tmp_path / "out", wider, tmp_path / "again")
    dit = TrialSpec.model_validate(
        spec().model_dump(mode="json")
        | {"model": {"kind": "dit", "width": 16, "heads": 2, "depth": 1}}
    )
    with pytest.raises(UserError, match="use kind: diffusers_unet"):
        take_in(tmp_path / "out", dit, tmp_path / "again")
    (tmp_path / "out" / "diffsweep.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        origin_of(tmp_path / "out")
    config = tmp_path / "out" / "unet" / "config.json"
    config.write_text(json.dumps({"_class_name": "UNet1DModel"}))
    with pytest.raises(UserError, match="UNet1DModel is another network"):
        take_in(tmp_path / "out", spec(model=DDPM), tmp_path / "again")
    assert origin_of(tmp_path) is None
    assert not is_folder_of_diffusers(tmp_path)
