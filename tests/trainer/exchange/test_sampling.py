"""Proves that samples are a function of the command alone, and that every way between noise and image is right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import toy_trial
from tests.trainer.exchange.models import labelled, spec, trained
from trainer.data import Codec
from trainer.errors import CheckpointError, InputError, UserError
from trainer.evaluation.generation import Generation
from trainer.exchange.changes import remeasured
from trainer.exchange.folder import SampleFolder, set_of
from trainer.exchange.pictures import picture, read_image, sheet, to_bytes
from trainer.exchange.sampling import Wanted, draw, level_of
from trainer.exchange.walks import denoised, interpolated, inverted, slerp, strip
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(labelled(), tmp_path_factory.mktemp("models") / "labelled")


@pytest.fixture(scope="module")
def model(directory: Path) -> Trained:
    return Trained.load(directory, "cpu")


def told(directory: Path, wanted: Wanted, out: Path, *options: str) -> list[str]:
    return list(
        draw(Record(directory), wanted, lambda trial: remeasured(trial, options), out, "cpu")
    )


def content(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


# Which samples


def test_other_samples_that_are_asked_for_move_none_by_a_bit(model: Trained) -> None:
    many = model.sample(21)
    assert many.shape == (21, 1, 8, 8)
    for n in (1, 3, 8, 13):
        assert torch.equal(model.sample(n), many[:n])
    assert torch.equal(model.drawn(model.ask(), range(5, 19)), many[5:19])
    # another number of samples at once: to the rounding of float32 sums
    torch.testing.assert_close(model.sample(21, together=5), many, rtol=0.0, atol=1e-5)
    # and they are those of the evaluation
    torch.testing.assert_close(model.generate(index=range(21)), many, rtol=0.0, atol=1e-5)


def test_labels_by_number_and_name_are_given_in_turn(model: Trained) -> None:
    ask = model.ask(labels=[3, "7"])
    assert ask.labels == (3, 7)
    labels = model.labels(ask, 5)
    assert labels is not None
    assert labels.tolist() == [3, 7, 3, 7, 3]
    drawn = model.drawn(ask, range(5))
    only = model.sample(5, labels=3)
    assert torch.equal(drawn[0::2], only[0::2])
    assert not torch.equal(drawn[1], only[1])


def test_without_labels_they_are_as_frequent_as_in_the_data(model: Trained) -> None:
    labels = model.labels(model.ask(), 2000)
    assert labels is not None
    # 10 nearly equal classes of 200: five standard deviations of 13.4
    assert torch.bincount(labels, minlength=10).sub(200).abs().max() < 67


def test_guidance_zero_is_none_and_more_of_it_moves_away(model: Trained) -> None:
    none, zero = model.sample(4, labels=1), model.sample(4, labels=1, guidance=0.0)
    assert torch.equal(none, zero)
    gaps = [float((model.sample(4, labels=1, guidance=w) - none).abs().mean()) for w in (1.0, 4.0)]
    assert 0.0 < gaps[0] < gaps[1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"labels": 10}, "label 10: the model knows the labels 0 to 9"),
        ({"labels": -1}, "label -1: the model knows the labels 0 to 9"),
        ({"labels": "nine"}, "label nine: is none of the data's"),
    ],
)
def test_labels_that_there_are_not(model: Trained, asked: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.ask(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [-1.0, float("inf"), float("nan")])
def test_numbers_that_ask_for_nothing(model: Trained, scale: float) -> None:
    with pytest.raises(UserError, match=f"guidance {scale:g}: is no scale"):
        model.sample(1, guidance=scale)
    with pytest.raises(UserError, match="n: -1 samples"):
        model.sample(-1)
    for together in (-1, 0):
        with pytest.raises(UserError, match=f"together: {together} samples make no batch"):
            model.sample(1, together=together)


def test_a_directory_may_be_text_and_a_device_must_be_one(directory: Path) -> None:
    assert Trained.load(str(directory), "cpu").device.type == "cpu"
    for name in ("gpu", "foo", "cpu:x", "meta"):
        with pytest.raises(UserError, match=f"device {name}: is none: use auto, cpu, cuda"):
            Trained.load(directory, name)


def test_models_that_cannot_be_asked_for_labels_or_guidance(tmp_path: Path, model: Trained) -> None:
    plain = Trained.load(trained(spec(), tmp_path / "plain"), "cpu")
    assert plain.labels(plain.ask(), 3) is None
    with pytest.raises(UserError, match="trained without labels"):
        plain.ask(labels=1)
    with pytest.raises(
        UserError, match="guidance: steers by labels or tags, and this network is told neither"
    ):
        plain.ask(guidance=1.0)
    unguided = replace(model, trial=labelled(train={"label_dropout": 0.0}))
    assert unguided.ask(guidance=0.0)
    with pytest.raises(
        UserError, match=r"its label, which is never trained at train\.label_dropout: 0"
    ):
        unguided.ask(guidance=1.0)


# The files


def test_the_same_command_writes_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    wanted = Wanted(per_class=1, guidance=(0.0, 2.0), strip=True, noise_seed=5)
    for folder in ("a", "b", "a"):
        told(directory, wanted, tmp_path / folder, "evaluation.full.steps=4")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert len(list((tmp_path / "a" / "guidance-2").glob("*.png"))) == 10
    assert Image.open(tmp_path / "a" / "grid.png").size == (10 * 66 - 2, 2 * 66 - 2)
    told(directory, replace(wanted, noise_seed=6), tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "b")


def test_files_hold_the_rounded_samples(directory: Path, model: Trained, tmp_path: Path) -> None:
    lines = told(directory, Wanted(n=5, labels=("2", "4")), tmp_path)
    assert lines == [f"{tmp_path}: 5 PNG, grid.png, samples.npz"]
    expected = model.sample(5, labels=[2, 4])
    levels = ((expected.double() + 1.0) * 127.5).round()
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert arrays["arr_0"].dtype == np.uint8
        assert arrays["arr_0"].shape == (5, 8, 8, 1)
        assert np.array_equal(arrays["arr_0"], levels.permute(0, 2, 3, 1).numpy())
        assert arrays["arr_1"].tolist() == [2, 4, 2, 4, 2]
    for i in range(5):
        png = np.asarray(Image.open(tmp_path / f"{i:06d}.png"))
        assert np.array_equal(png, levels[i, 0].numpy())
        # a picture read back is the sample that it was written from
        assert torch.equal(read_image(tmp_path / f"{i:06d}.png", model.codec)[0], expected[i])
    story = json.loads((tmp_path / "samples.json").read_text())
    assert story["labels"] == [2, 4, 2, 4, 2]
    assert story["images_seen"] == model.images


def test_fewer_samples_leave_no_older_ones_behind(directory: Path, tmp_path: Path) -> None:
    told(directory, Wanted(n=6), tmp_path / "out")
    told(directory, Wanted(n=2), tmp_path / "out")
    assert sorted(content(tmp_path / "out")) == [
        "000000.png", "000001.png", "grid.png", "samples.json", "samples.npz",
    ]  # fmt: skip


def test_a_folder_of_other_files_is_left_alone(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"dear")
    with pytest.raises(UserError, match="holds other files than samples"):
        told(directory, Wanted(n=2), tmp_path)
    (tmp_path / "samples.json").write_text('{"files": ["holiday.png", "../x.png"]}')
    (tmp_path.parent / "x.png").write_bytes(b"dear")
    told(directory, Wanted(n=2), tmp_path)
    assert (tmp_path.parent / "x.png").exists()


def test_a_writing_that_was_cut_short_is_begun_again(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SampleFolder, "write_sheet", cut)
        with pytest.raises(KeyboardInterrupt):
            told(directory, Wanted(n=4), out)
    (out / ".000003.png.77.partial").write_bytes(b"half")
    (out / "holiday.png").write_bytes(b"dear")
    with pytest.raises(UserError, match="was not finished"):
        set_of(out)
    told(directory, Wanted(n=2), out)
    told(directory, Wanted(n=2), whole)
    assert content(out) == content(whole) | {"holiday.png": b"dear"}


def test_points_are_drawn_as_a_scatter(tmp_path: Path) -> None:
    points = TrialSpec.model_validate(toy_trial())
    told(trained(points, tmp_path / "toy"), Wanted(n=40), tmp_path / "out")
    assert sorted(content(tmp_path / "out")) == ["grid.png", "samples.json", "samples.npz"]
    with np.load(tmp_path / "out" / "samples.npz") as arrays:
        assert arrays["arr_0"].shape == (40, 2)
    with pytest.raises(UserError, match="this model makes points"):
        told(tmp_path / "toy", Wanted(n=4, strip=True), tmp_path / "strip")


def test_a_sheet_has_its_images_in_rows() -> None:
    pixels = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(64, 1).repeat(64, 2)
    whole = np.asarray(sheet(pixels, 3))
    assert whole.shape == (2 * 66 - 2, 3 * 66 - 2)
    assert whole[0, [0, 66, 132]].tolist() == [0, 1, 2]
    assert whole[66, [0, 66, 132]].tolist() == [3, 4, 96]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_any_channels_are_written_and_read(channels: int, tmp_path: Path) -> None:
    """As many as a PNG can hold come back; of more the first is shown, and no file can be read."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), dtype=np.uint8)
    codec = Codec((channels, 8, 8), 255)
    picture(pixels[0]).save(tmp_path / "a.png")
    assert sheet(pixels).mode == ["L", "LA", "RGB", "RGBA", "L"][channels - 1]
    if channels == 5:
        with pytest.raises(UserError, match="no images that a file could hold"):
            read_image(tmp_path / "a.png", codec)
    else:
        assert np.array_equal(to_bytes(read_image(tmp_path / "a.png", codec)), pixels[:1])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_bytes_are_the_nearest_level(channels: int) -> None:
    x = torch.linspace(-1.1, 1.1, 2 * channels * 6).reshape(2, channels, 2, 3)
    expected = ((x.double() + 1.0) * 127.5).clamp(0, 255).permute(0, 2, 3, 1)
    # half a level, and the rounding of float32
    assert np.abs(to_bytes(x) - expected.numpy()).max() <= 0.5 + 1e-4


# The ways


def test_a_strip_ends_at_the_sample(model: Trained) -> None:
    ask = model.ask(labels=1)
    rows = strip(model, ask, 3, 5)
    assert rows.shape == (3, 2, 5, 1, 8, 8)
    sample = model.drawn(ask, range(3))
    for row in (0, 1):
        torch.testing.assert_close(rows[:, row, -1], sample, rtol=0.0, atol=1e-5)
    start = model.way(ask, torch.arange(3)).start
    assert torch.equal(rows[:, 0, 0], start.clamp(-1.0, 1.0))


def test_rows_between_two_noises_end_at_their_samples(model: Trained) -> None:
    ask = model.ask(labels=5)
    rows = interpolated(model, ask, 2, 4)
    samples = model.drawn(ask, range(4)).reshape(2, 2, 1, 8, 8)
    torch.testing.assert_close(rows[:, 0], samples[:, 0], rtol=0.0, atol=1e-5)
    torch.testing.assert_close(rows[:, -1], samples[:, 1], rtol=0.0, atol=1e-5)


def test_the_great_circle_keeps_the_length_of_noise() -> None:
    a, b = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    points = slerp(a, b, torch.linspace(0, 1, 9))
    lengths = points.flatten(1).norm(dim=1)
    # of 4,800 numbers: both lengths are within 3 % of 69, and the middle of a straight line would be at 49
    assert lengths.sub(69.3).abs().max() < 3.0
    torch.testing.assert_close(slerp(a, a, torch.tensor([0.3]))[0], a)


def test_finer_inversion_comes_back_closer(model: Trained) -> None:
    x0 = model.sample(2, labels=1)
    errors = []
    for steps in (10, 40, 160):
        generation = Generation.model_validate(
            {"images": 2, "steps": steps, "solver": {"kind": "ddim"}}
        )
        errors.append(inverted(model, model.ask(generation, labels=1), x0).rms)
    # DDIM is of first order: four times the steps, about a fourth of the error
    assert errors[0] > 2.0 * errors[1] > 4.0 * errors[2]
    noisy = Generation.model_validate({"images": 2, "steps": 9, "solver": {"kind": "ddpm"}})
    with pytest.raises(UserError, match="draws noise"):
        inverted(model, model.ask(noisy), x0)


def test_denoising_from_little_noise_hardly_moves_the_image(model: Trained) -> None:
    x0 = model.sample(1)
    gaps = []
    for log_snr in (8.0, 2.0, -2.0):
        noisy, clean = denoised(model, model.ask(), x0, 3, log_snr)
        assert noisy.shape == clean.shape == (3, 1, 8, 8)
        gaps.append(float((clean - x0).abs().mean()))
    assert gaps[0] < 0.05 < gaps[2]
    with pytest.raises(UserError, match="nothing to denoise"):
        denoised(model, model.ask(), x0, 1, 9.5)


def test_where_denoising_begins(model: Trained) -> None:
    half = torch.tensor(0.5, dtype=torch.float64)
    assert level_of("0.5", model) == float(model.diffusion.schedule.log_snr(half))
    assert level_of("log_snr=-2", model) == -2.0
    assert level_of("edm_sigma=1", model) == 0.0
    for text in ("0", "1.5", "half", "sigma=2", "log_snr=x", "edm_sigma=0", "nan"):
        with pytest.raises(UserError, match="write a time above 0"):
            level_of(text, model)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(invert=Path("a"), interpolate=3), "--interpolate and --invert are different"),
        (Wanted(interpolate=3, guidance=(1.0, 2.0)), "takes one --guidance"),
        (Wanted(guidance=(1.0, 2.0, 1.0000001)), "--guidance 1 is there twice"),
        (Wanted(strip=True, invert=Path("a")), "not of --invert: choose one"),
        (Wanted(per_class=1, labels=("1",)), "choose one"),
        (Wanted(denoise=Path("a")), "belong together"),
        (Wanted(begin="0.5"), "belong together"),
        (Wanted(invert=Path("nowhere.png")), "nowhere.png is not there"),
    ],
)
def test_wishes_that_cannot_be(
    directory: Path, wanted: Wanted, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        told(directory, wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_the_model_cannot_take(directory: Path, tmp_path: Path) -> None:
    wide, text = tmp_path / "wide.png", tmp_path / "text.png"
    Image.new("L", (9, 8)).save(wide)
    text.write_text("no image")
    for file, message in (
        (wide, "is 9 x 8 pixels, this model makes 8 x 8"),
        (text, "it is no image"),
    ):
        with pytest.raises(UserError, match=message):
            told(
                directory,
                Wanted(invert=file),
                tmp_path / "out",
                "evaluation.full.solver={kind: ddim}",
            )


def test_sixteen_bit_images_keep_their_greys(model: Trained, tmp_path: Path) -> None:
    ramp = (np.arange(64, dtype=np.uint16) * 1023).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    x = read_image(tmp_path / "ramp.png", model.codec)
    # the digits have 17 levels: half a level, 1/16, beside what the file says
    assert float((x[0, 0] - torch.from_numpy(ramp / 32767.5 - 1.0)).abs().max()) <= 1 / 16 + 1e-3


@pytest.mark.parametrize(("background", "seen"), [("white", 1.0), ("black", -1.0)])
def test_what_nobody_sees_is_the_background(background: Any, seen: float, tmp_path: Path) -> None:
    """As the data is read: colours hidden under alpha are no part of the picture."""
    hidden = np.zeros((8, 8, 4), np.uint8)
    hidden[..., 0] = 200
    hidden[:4, :, 3] = 255
    Image.fromarray(hidden).save(tmp_path / "hidden.png")
    x = read_image(tmp_path / "hidden.png", Codec((3, 8, 8), 255), background=background)
    assert torch.equal(x[0, :, 4:], torch.full((3, 4, 8), seen))
    assert torch.allclose(x[0, 0, :4], torch.tensor(200 / 127.5 - 1.0))
    kept = read_image(tmp_path / "hidden.png", Codec((4, 8, 8), 255))
    assert torch.equal(kept[0, 3, 4:], torch.full((4, 8), -1.0)), "a model of transparency sees it"


# What may be changed, and what there is


def test_only_the_evaluation_of_a_trained_model_can_be_changed() -> None:
    changed = remeasured(spec(), ["evaluation.full={steps: 9, solver: {kind: heun}}"])
    assert changed.evaluation.full.steps == 9
    assert changed.evaluation.full.images == 16
    with pytest.raises(InputError, match="a trained model stays as it was trained"):
        remeasured(spec(), ["optimizer.lr=1"])
    with pytest.raises(InputError, match=r"did you mean `evaluation\.full\.steps`"):
        remeasured(spec(), ["evaluation.full.stepz=1"])


def test_a_trial_without_a_checkpoint_is_explained(tmp_path: Path) -> None:
    Record(tmp_path / "begun").begin(spec(), 0)
    with pytest.raises(CheckpointError, match="holds no trained model"):
        told(tmp_path / "begun", Wanted(), tmp_path / "out")
