"""Proves that feature spaces check their weights before use, say what they need and cost, and name what is wrong."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.__main__ import main
from trainer.data import Digits, Gaussians, Resident
from trainer.errors import EnvironmentProblem, UserError
from trainer.evaluation.enough import few_images
from trainer.evaluation.features import SPACES, Classifier, DINOv2, Inception, inception
from trainer.evaluation.features import classifier as module
from trainer.evaluation.protocol import Evaluation
from trainer.record import Record
from trainer.trial import TrialSpec

NAME = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, elsewhere; and nobody answers where weights are published."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: refused at once
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


class Planted:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("planted", ["in the cache", "named in the spec"])
def test_weights_that_would_run_code_do_not(hub: Path, tmp_path: Path, planted: str) -> None:
    cached = planted == "in the cache"
    file = hub / NAME if cached else tmp_path / "mine.pth"
    torch.save({"x": Planted(tmp_path / "trace")}, file)
    space = Inception() if cached else Inception(weights=str(file))
    wanted = EnvironmentProblem if cached else UserError
    for act in (space.ready, lambda: space.build(Digits().load(Path()), tmp_path)):
        with pytest.raises(wanted, match="not a whole file of plain tensors"):
            act()
    assert not (tmp_path / "trace").exists()


def test_a_cut_download_is_named_with_the_way_out(hub: Path) -> None:
    torch.save({"x": torch.ones(10_000)}, hub / NAME)
    whole = (hub / NAME).read_bytes()
    for content in (
        whole[:20_000],
        b"",
        whole[:10] + os.urandom(1000),
        b"<html>no such file</html>",
    ):
        (hub / NAME).write_bytes(content)
        with pytest.raises(EnvironmentProblem, match=f"{NAME} in torch's cache.*: delete it, then"):
            Inception().ready()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"layer.weight": torch.ones(3)}, r"another network \(Missing key"),
        ({"epoch": 3}, "not a file of named tensors"),
        (torch.ones(3), "not a file of named tensors"),
    ],
    ids=["another network", "a checkpoint", "a tensor"],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, state: Any, said: str) -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"features\.weights: .*w\.pth: .*{said}"):
        Inception(weights=str(tmp_path / "w.pth")).ready()


def test_a_trial_is_known_by_its_weights_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of the null path are what they were; the published file is the null path; a file's name is its content."""
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (Inception(weights=str(tmp_path / name)) for name in "abc")
    assert Inception().identity() == {"kind": "inception", "weights": None}
    assert a.identity() == b.identity() == {**Inception().identity(), "content": sha256(b"1")[:16]}
    assert c.digest() != a.digest()
    again = Inception.saved(a.model_dump_json())
    (tmp_path / "a").write_bytes(b"2")
    assert Inception.saved(again.model_dump_json()) == a, "as it was when the trial was named"
    assert Inception(weights=str(tmp_path / "a")).digest() == c.digest(), "a file that changed"
    none = Inception(weights=str(tmp_path / "none"))
    assert none.digest() not in {Inception().digest(), a.digest(), c.digest()}
    monkeypatch.setattr(inception, "_PUBLISHED", sha256(b"2")[:8])
    assert Inception(weights=str(tmp_path / "c")).identity() == Inception().identity()
    keys = {
        trial_with(Inception(weights=str(tmp_path / name)), tmp_path).key("data") for name in "ac"
    }
    assert keys == {trial_with(Inception(), tmp_path).key("data")}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def trial_with(space: Inception, path: Path) -> TrialSpec:
    full = {"images": 8, "steps": 2}
    return TrialSpec.model_validate(
        {
            "data": {"kind": "image_folder", "path": str(path)},
            "model": {"kind": "unet", "channels": [8], "groups": 4},
            "train": {"kimg": 1},
            "evaluation": {"full": full, "features": space.model_dump(), "metrics": ["fid"]},
        }
    )


def test_absent_weights_without_a_network_are_an_environment_problem(
    hub: Path, tmp_path: Path
) -> None:
    for act in (Inception().ready, lambda: Inception().build(Digits().load(Path()), tmp_path)):
        with pytest.raises(
            EnvironmentProblem, match=r"cannot be downloaded .*name it in evaluation"
        ):
            act()
    assert list(hub.glob("*.pth")) == []


# What is known before anything is read


@pytest.mark.parametrize("space", [Inception(), DINOv2()])
def test_colours_and_what_is_none_are_told_apart_by_name(space: Any, tmp_path: Path) -> None:
    for shape in ((2, 8, 8), (4, 8, 8), (5, 8, 8)):
        source = Resident.of(torch.zeros(4, *shape, dtype=torch.uint8), levels=255)
        with pytest.raises(UserError, match=f"{space.kind} looks at grey or RGB .* {shape[0]} ch"):
            space.build(source, tmp_path)


def trial(toy: dict[str, Any], **evaluation: Any) -> TrialSpec:
    return TrialSpec.model_validate({**toy, "evaluation": {**toy["evaluation"], **evaluation}})


@pytest.mark.parametrize("kind", ["classifier", "inception", "dinov2", "clip"])
def test_points_are_no_images(toy: dict[str, Any], kind: str) -> None:
    with pytest.raises(
        ValueError, match=f"evaluation.features: {kind} needs images: use kind: pixels"
    ):
        trial(toy, features={"kind": kind})


def test_pixels_of_photographs_are_refused_with_the_size_of_their_covariance(
    toy: dict[str, Any],
) -> None:
    toy["data"] = {"kind": "image_folder", "path": "photos", "size": 128}
    toy["model"] = {"kind": "unet", "channels": [8], "blocks": 1, "attention": []}
    with pytest.raises(
        ValueError, match=r"49,152 dimensions, whose covariance alone takes 19\.3 GB"
    ):
        trial(toy, features={"kind": "pixels"})
    trial(toy, features={"kind": "classifier"})


def test_fewer_images_than_dimensions_are_said_in_numbers() -> None:
    full = {"images": 1000, "steps": 4}
    values = {"full": full, "rung": {**full, "images": 100}, "features": {"kind": "inception"}}
    metrics = ["fid", "kid", "mind"]
    spec = Evaluation.model_validate({**values, "metrics": metrics})
    first, second = few_images(spec, (3, 32, 32))
    assert first.startswith("evaluation.full: fid of 1,000 images in 2,048 dimensions (inception)")
    assert second.startswith("evaluation.rung: fid of 100 images in 2,048 dimensions (inception)")
    enough = Evaluation.model_validate(
        {"full": {**full, "images": 2048}, "features": {"kind": "inception"}}
    )
    assert few_images(enough, (3, 32, 32)) == []
    nested = Evaluation.model_validate(
        {
            "full": {**full, "images": 5000},
            "features": {"kind": "inception"},
            "metrics": ["fid_infinity"],
        }
    )
    (line,) = few_images(nested, (3, 32, 32))
    assert "fid_infinity of 500 images" in line, "its smallest subset"


# The classifier


def test_the_classifier_says_how_well_it_knows_its_images_and_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, space = Digits().load(Path()), Classifier(steps=60)
    assert not space.is_made(source, tmp_path)
    assert space.seconds(source) > 0.0
    assert list(tmp_path.iterdir()) == [], "only timed"
    monkeypatch.setattr(module, "_TELL_S", 1e-3)
    space.prepare(source, tmp_path)
    told = capsys.readouterr().err.splitlines()
    assert len(told) > 10
    assert told[0].startswith("training the classifier that images are compared by")
    assert "of 60, about" in told[0]
    assert space.is_made(source, tmp_path)
    extractor = space.build(source, tmp_path)
    (kept,) = tmp_path.glob("classifier-*.json")
    known = json.loads(kept.read_text())
    rows = torch.arange(len(source))
    assert extractor.classify is not None
    guesses = extractor.classify(extractor.features(source.codec.scale(source.read(rows)))).argmax(
        1
    )
    assert known["accuracy"] == float((guesses == source.labels_of(rows)).double().mean())
    assert (
        extractor.remark
        == f"it names {100 * known['accuracy']:.1f} % of 1,797 images that it was trained on"
    )
    assert capsys.readouterr().err == ""


def test_a_trial_tells_and_keeps_what_is_known_of_its_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {
        "data": {"kind": "digits"},
        "model": {"kind": "unet", "channels": [8], "blocks": 1, "attention": [], "groups": 4},
        "train": {"kimg": 0.064, "batch_size": 32},
        "evaluation": {
            "evaluations": 1,
            "draws": 1,
            "features": {"kind": "classifier", "steps": 5, "width": 16},
            "full": {"images": 12, "steps": 2},
        },
    }
    (tmp_path / "t.yaml").write_text(json.dumps(spec))
    places = ["--out", str(tmp_path / "a"), "--cache", str(tmp_path / "cache")]
    assert main([str(tmp_path / "t.yaml"), *places, "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "note: evaluation.full: fid of 12 images in 16 dimensions (classifier)" in said.err
    result = Record(tmp_path / "a").result()
    assert result is not None
    assert result.spaces["classifier"].endswith("of 1,797 images that it was trained on")
    assert f"features classifier: {result.spaces['classifier']}" in said.out


def test_the_classifier_needs_labels() -> None:
    images = Resident.of(torch.zeros(8, 1, 8, 8, dtype=torch.uint8), levels=255)
    with pytest.raises(UserError, match="classifier needs labels, the data has none"):
        Classifier().check(images.codec)
    with pytest.raises(UserError, match="use kind: pixels for points"):
        Classifier().check(Gaussians(examples=16).load(Path()).codec)


# Encoders


def test_an_encoder_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'diffsweep\[encoders\]'"):
        DINOv2().ready()


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_encoders_are_transformers_own(tmp_path: Path, kind: str) -> None:
    """A tiny one of random weights, saved and read back: features are what the library computes."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28}
    if kind == "dinov2":
        made = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, patch_size=14)).eval()
    else:
        config = transformers.CLIPVisionConfig(
            **sizes, patch_size=14, intermediate_size=64, projection_dim=16
        )
        made = transformers.CLIPVisionModelWithProjection(config).eval()
    made.save_pretrained(tmp_path / "model")
    source = Digits().load(Path())
    space = SPACES[kind](model=str(tmp_path / "model"), side=28)
    extractor = space.build(source, tmp_path)
    x = source.codec.scale(source.read(torch.arange(3)))
    shown = torch.nn.functional.interpolate((x + 1) / 2, (28, 28), mode="bicubic", antialias=True)
    shown = shown.clamp(0, 1).expand(-1, 3, -1, -1)
    mean, spread = (torch.tensor(v)[:, None, None] for v in (space.mean, space.spread))
    with torch.no_grad():
        found = made(pixel_values=(shown - mean) / spread)
    expected = found.pooler_output if kind == "dinov2" else found.image_embeds
    torch.testing.assert_close(extractor.features(x), expected, rtol=1e-4, atol=1e-5)
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(UserError, match="does not load as"):
        space.build(source, tmp_path)
