"""Proves that a model is found by whatever names it, that near misses are told, and that `sample` works as typed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from service.cli import invoke
from service.experiment import Experiment
from service.experiment.saved import save
from service.models import find_model
from service.settings import Settings
from tests.trainer.exchange import models
from trainer.errors import InputError
from trainer.exchange.changes import remeasured
from trainer.made import Made
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec
from trainer.yaml.source import parse

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def settings() -> Settings:
    return Settings(home=Path("runs"))


def key_of(cell: str, seed: int) -> str:
    trials = Experiment.from_yaml("x.yaml").trials
    return next(t.key for t in trials if (t.cell, t.seed) == (cell, seed))


def test_every_name_of_a_trial_finds_it(settings: Settings) -> None:
    key = key_of("under", 1)
    directory = settings.trial(key)
    for target in (key, key[:6], str(directory)):
        found = find_model(target, settings)
        assert found.record.directory.resolve() == directory
        assert found.name == key[:8]
    save(Experiment.from_yaml("x.yaml"), settings.experiment("toy"))
    for target in ("x.yaml", "toy"):
        found = find_model(target, settings, "under", 1)
        assert found.record.directory == directory
        assert (found.name, found.experiment, found.cell) == ("under-seed1", "toy", "under")


def test_the_first_seed_is_meant_where_none_is_said(settings: Settings) -> None:
    found = find_model("x.yaml", settings, "under")
    assert found.record.directory == settings.trial(key_of("under", 0))


def test_a_preset_is_one_trial(settings: Settings) -> None:
    trial = TrialSpec.model_validate(parse(Path("toy.yaml").read_text(), "toy").data)
    found = find_model("toy.yaml", settings)
    assert found.record.directory.name == trial.key(trial.data.fingerprint(Path()))


def test_an_experiment_is_known_where_its_data_is_not(settings: Settings) -> None:
    """By what was saved when it was run."""
    photos = Path("photos")
    photos.mkdir()
    from PIL import Image

    Image.new("RGB", (8, 8)).save(photos / "a.png")
    text = (
        Path("toy.yaml")
        .read_text()
        .replace("{kind: gaussians, examples: 256}", "{kind: image_folder, path: photos}")
    )
    Path("toy.yaml").write_text(text)
    experiment = Experiment.from_yaml("x.yaml")
    save(experiment, settings.experiment("toy"))
    trial = experiment.trials[0]
    shutil.copytree(next(settings.trials.iterdir()), settings.trial(trial.key))
    shutil.rmtree(photos)
    assert find_model("x.yaml", settings, "uniform").record.directory.name == trial.key


@pytest.mark.parametrize(
    ("target", "cell", "seed", "message"),
    [
        ("x.yaml", None, None, "has 2 cells: choose one with --cell: `uniform`, `under`"),
        ("x.yaml", "undr", None, "there is no cell `undr`, did you mean `under`?"),
        ("x.yaml", "under", 7, "is not planned with seed 7; its seeds: `0`, `1`"),
        ("tow", None, None, "is no directory, no experiment, and no key"),
        ("runs", None, None, "holds no trial"),
        ("", None, None, "is the beginning of 4 keys"),
    ],
)  # fmt: skip
def test_what_names_no_model(
    settings: Settings, target: str, cell: str | None, seed: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        find_model(target, settings, cell, seed)


def test_files_that_are_near_a_model(settings: Settings) -> None:
    directory = settings.trial(key_of("under", 1))
    assert find_model(str(directory / "trial.json"), settings).record.directory == directory
    for name in ("x.npy", "grid.png", "s.npz"):
        Path(name).write_bytes(b"\x93NUMPY")
        with pytest.raises(InputError, match=f"{name}: is a file of images, no model"):
            find_model(name, settings)


def test_near_keys_are_told(settings: Settings) -> None:
    key = key_of("under", 1)
    wrong = ("0" if key[3] != "0" else "1").join([key[:3], key[4:8]])
    with pytest.raises(InputError, match=f"near it: .*{key}"):
        find_model(wrong, settings)
    with pytest.raises(InputError, match="is one trial already: leave --seed out"):
        find_model(key, settings, seed=1)


def test_a_trial_that_has_not_begun(settings: Settings) -> None:
    for checkpoint in settings.trial(key_of("under", 1)).glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    with pytest.raises(InputError, match=r"has no checkpoint in .*: run the experiment first"):
        find_model("x.yaml", settings, "under", 1)


def test_sample_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    models.trained(models.labelled(), Path("digits"))
    command = ["sample", "digits", "--per-class", "1", "--guidance", "0", "--guidance", "3"]
    command += ["--solver", "{kind: ddim}", "--eta", "0.5", "--steps", "3", "--grid", "own"]
    assert invoke(command) == 0
    captured = capsys.readouterr()
    assert captured.out == "samples/digits: 20 PNG, grid.png, samples.npz\n"
    assert captured.err == ""
    with np.load("samples/digits/guidance-3/samples.npz") as arrays:
        assert arrays["arr_0"].shape == (10, 8, 8, 1)
        assert arrays["arr_1"].tolist() == list(range(10))
    generation = json.loads(Path("samples/digits/samples.json").read_text())["generation"]
    assert generation["solver"] == {"kind": "ddim", "eta": 0.5}
    assert (generation["steps"], generation["grid"]) == (3, None)
    assert invoke(["sample", "digits", "--invert", "samples/digits/guidance-0/000003.png"]) == 0
    assert "root mean square error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--label", "12"], "label 12: the model knows the labels 0 to 9", 2),
        (["--solver", "ddmi"], "unknown kind `ddmi`, did you mean `ddpm`?", 2),
        (["--eta", "1"], "evaluation.full.solver.eta: unknown key of `dpmpp_2m`", 2),
        (["--grid", "{kind: karras"], "evaluation.full.grid", 2),
        (["--steps", "0"], "must be 1 or more", 2),
        (["--denoise", "x.png"], "belong together", 2),
    ],
)
def test_mistakes_of_a_sample_command(
    options: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    models.trained(models.labelled(), Path("digits"))
    assert invoke(["sample", "digits", *options]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not Path("samples").exists()


def test_a_trial_without_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    Record(Path("begun")).begin(models.spec(), 0)
    assert invoke(["sample", "begun"]) == 3
    assert "holds no trained model; train it first" in capsys.readouterr().err


def test_evaluate_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    key = key_of("under", 0)
    assert invoke(["evaluate", key[:8], "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    result = Record(Path("runs/trials") / key).result()
    assert result is not None
    assert data["metrics"] == {"eval/fid": result.metrics["eval/fid"]}
    assert data["protocol"] == {"eval/fid": result.protocol["eval/fid"]}
    assert invoke(["evaluate", "x.yaml", "--cell", "under", "-o", "evaluation.full.steps=7"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["row", "metric", "value", "protocol", "by", "noise"]
    assert table[1].split()[0] == "eval/fid"
    assert result.protocol["eval/fid"] not in table[1]
    # samples know who made them
    assert invoke(["sample", key, "-n", "32", "--out", "s"]) == 0
    assert invoke(["evaluate", "s/samples.npz", "--protocol", "full", "--json"]) == 0
    saved = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert saved["trial"] == key
    assert saved["metrics"]["eval/fid"] > 0.0


def test_samples_of_a_folder_find_their_model(capsys: pytest.CaptureFixture[str]) -> None:
    models.trained(models.spec(), Path("m/plain"))
    assert invoke(["sample", "m/plain", "-n", "16", "--out", "s", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == "s"
    assert sorted(told["files"]) == sorted(
        path.relative_to("s").as_posix()
        for path in Path("s").rglob("*.*")
        if path.suffix != ".json"
    )
    assert invoke(["evaluate", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trial"] == "plain"
    shutil.rmtree("m")
    assert invoke(["evaluate", "s"]) == 2
    assert "m/plain: is no directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs"], "nobody wrote down which model made these samples: name one with --against"),
        (["nowhere.npz"], "nowhere.npz: is not there"),
        (["x.yaml", "--cell", "under", "-o", "train.kimg=3"], "stays as it was trained"),
        (["x.yaml", "--cell", "under", "--against", "toy"], "--against: is for samples"),
    ],
)
def test_mistakes_of_an_evaluate_command(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["evaluate", *words]) == 2
    assert message in capsys.readouterr().err


def test_import_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from tests.trainer.exchange.test_openai import published, trial_of

    name = "unet_forward/32_2_1_2"
    torch.save(published(name), "w.pt")
    Path("preset.yaml").write_text(trial_of(name).model_dump_json(exclude={"seed"}))
    assert invoke(["import", "w.pt", "model", "--as", "preset.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("model: try ")
    assert invoke(["sample", "model", "-n", "1", "--steps", "2", "--out", "s"]) == 0
    capsys.readouterr()
    assert invoke(["import", "w.pt", "again", "--as", "preset.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "again"
    assert invoke(["import", "w.pt", "other", "--as", "preset.yaml", "-o", "model.blocks=2"]) == 2
    assert "they lack `input_blocks" in capsys.readouterr().err
    assert invoke(["import", "w.pt", "other", "--as", "x.yaml"]) == 2
    assert "is no complete trial" in capsys.readouterr().err


def test_a_folder_of_diffusers_needs_no_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.trainer.exchange.test_returning import theirs

    theirs(Path("folder"), {"prediction_type": "v_prediction"})
    assert invoke(["import", "folder", "model"]) == 0
    captured = capsys.readouterr().out
    assert captured.startswith("note: the data is not here")
    assert invoke(["sample", "model", "-n", "1", "--steps", "2", "--out", "s"]) == 0
    assert invoke(["import", "folder", "other", "-o", "model.blocks=2"]) == 2
    assert "-o: changes the YAML of --as" in capsys.readouterr().err
    theirs(Path("sigmoid"), {"beta_schedule": "sigmoid"})
    assert invoke(["import", "sigmoid", "other"]) == 2
    assert "beta_schedule: sigmoid" in capsys.readouterr().err


def test_every_average_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the trial's own list, and those made afterwards."""
    ema = [{"kind": "ramp", "decay": 0.5}, {"kind": "constant", "decay": 0.9, "name": "slow"}]
    directory = models.trained(models.spec(ema=ema, evaluation={"draws": 1}), Path("several"))
    weights = {name: Trained.load(directory, "cpu", name).network for name in ("ramp", "slow")}
    made = Made(0.1, 64, weights["slow"].state_dict())
    Record(directory).made.save("wide", made)
    command = ["evaluate", "several", "--json"]
    for name in ("ramp", "slow", "wide"):
        command += ["--average", name]
    assert invoke(command) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert list(metrics) == ["eval/fid", "eval/fid-ema-slow", "eval/fid-ema-wide"]
    first, slow, wide = metrics.values()
    assert first != slow == wide
    assert invoke(["evaluate", "several", "--average", "wid"]) == 2
    said = capsys.readouterr().err
    assert said == "average wid: there is none of this name; the trial has `ramp`, `slow`, `wide`\n"
    assert invoke(["sample", "several", "-n", "1", "--average", "slow", "--out", "s"]) == 0
    assert json.loads(Path("s/samples.json").read_text())["average"] == "slow"
    assert invoke(["evaluate", "s/samples.npz", "--average", "slow"]) == 2
    assert "--average: is of a model" in capsys.readouterr().err


def test_likelihoods_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside any others; with standard errors where they cost nothing, and the terms of the bound."""
    models.trained(models.spec(evaluation={"draws": 1}), Path("one"))
    of = ["--metric", "{kind: bpd, steps: 5}", "--metric", "{kind: nll, steps: 4}"]
    assert invoke(["evaluate", "one", *of, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data["metrics"]) == ["eval/bpd", "eval/nll"]
    assert all(0.0 < data["errors"][f"se/{name}"] < 0.5 for name in ("bpd", "nll"))
    terms = data["terms"]["eval/bpd"]
    assert list(terms) == ["prior", "steps", "decoder"]
    # float64 sums in another order
    assert sum(terms.values()) == pytest.approx(data["metrics"]["eval/bpd"], rel=1e-12)
    override = "evaluation.metrics=[{kind: bpd, steps: 5}, {kind: nll, steps: 4}]"
    assert invoke(["evaluate", "one", "-o", override, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == data["metrics"]
    assert invoke(["evaluate", "one", *of[:2], "--average", "ramp"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["row", "metric", "value", "standard", "error", "protocol"]
    assert table[2].startswith("eval/bpd = prior ")
    assert invoke(["evaluate", "one", "--metric", "fid,kid", "--metric", "mind", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (list(data["metrics"]), data["errors"]) == (["eval/fid", "eval/kid", "eval/mind"], {})
    assert invoke(["evaluate", "one", "--metric", "fid,bpp"]) == 2
    assert "--metric bpp: there is no such metric, did you mean `bpd`" in capsys.readouterr().err


def test_an_evaluation_says_how_far_it_is() -> None:
    """In images, those that the network is asked about by the share of its passes."""
    from trainer.exchange.measuring import measure_model

    options = ["evaluation.metrics=[fid, {kind: bpd, steps: 5, images: 6}, {kind: nll, steps: 2}]"]
    trial = remeasured(models.spec(evaluation={"draws": 2}), options)
    model = Trained.load(models.trained(trial, Path("two")), "cpu")
    heard: list[tuple[int, int]] = []
    found = measure_model(model, Path("c"), Path(), "full", lambda *said: heard.append(said))
    assert heard == sorted(heard)
    assert len(heard) == 2 + 5 + 4 * 2, "two noises, and every pass"
    assert heard[-1] == (2 * 16 + 6 + 16, 2 * 16 + 6 + 16)
    assert found.metrics["eval/bpd"] == pytest.approx(sum(found.terms["eval/bpd"].values()))
