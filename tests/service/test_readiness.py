"""Proves that what would end every trial is said once, before any of them: exit 2 for input, 3 for the machine."""

from pathlib import Path

import pytest

from service.cli import invoke

YAML = """
name: x
base:
  data: {data}
  model: {{kind: unet, channels: [8, 16], blocks: 1, attention: [], groups: 4{model}}}
  train: {{kimg: 0.064, batch_size: 16}}
  evaluation:
    evaluations: 1
    features: {features}
    full: {{images: 8, steps: 2}}

seeds: 4
launcher: inproc
"""


def written(folder: Path, data: str, features: str = "{kind: pixels}", model: str = "") -> Path:
    file = folder / "x.yaml"
    file.write_text(YAML.format(data=data, features=features, model=model))
    return file


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a torch cache of its own; nobody answers on the network."""
    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def unlabelled(tmp_path: Path) -> str:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for k in range(6):
        Image.new("RGB", (16, 16), (40 * k, 0, 0)).save(tmp_path / "photos" / f"{k}.png")
    return f"{{kind: image_folder, path: '{tmp_path / 'photos'}', size: 8}}"


@pytest.mark.parametrize("verb", ["validate", "run", "plan"])
def test_fewer_classes_than_the_data_has_are_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "{kind: digits}", model=", classes: 5")
    assert invoke([verb, str(file)]) == 2
    said = capsys.readouterr().err
    assert "x.yaml:5: base.model.classes: 5 is too few, the data has 10 classes" in said
    assert not (tmp_path / "home" / "trials").exists()


def test_a_classifier_without_labels_is_refused(
    tmp_path: Path, unlabelled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, unlabelled, features="{kind: classifier}")
    assert invoke(["validate", str(file)]) == 2
    assert "evaluation.features: classifier needs labels" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["validate", "run"])
def test_absent_weights_without_a_network_are_the_machines_fault_once(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "{kind: digits}", features="{kind: inception}")
    assert invoke([verb, str(file)]) == 3
    said = capsys.readouterr().err
    assert said.count("cannot be downloaded") == 1
    assert "name it in evaluation.features.weights" in said
    assert not (tmp_path / "home" / "trials").exists()


def test_weights_that_do_not_fit_are_refused_with_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.pth").write_bytes(b"half of it")
    features = f"{{kind: inception, weights: '{tmp_path / 'w.pth'}'}}"
    file = written(tmp_path, "{kind: digits}", features=features)
    assert invoke(["validate", str(file)]) == 2
    assert "x.yaml:9: base.evaluation.features.weights: " in capsys.readouterr().err


def test_published_statistics_that_are_not_there_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "{kind: digits}")
    option = f"base.evaluation.reference={tmp_path / 'none.npz'}"
    assert invoke(["validate", str(file), "-o", option.removeprefix("base.")]) == 2
    assert "evaluation.reference: " in (said := capsys.readouterr().err)
    assert "No such file" in said


def test_plan_says_what_the_classifier_costs_until_it_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from service.experiment import Experiment
    from service.readiness import make_ready
    from service.settings import load as load_settings

    file = written(tmp_path, "{kind: digits}", features="{kind: classifier, steps: 30, width: 8}")
    assert invoke(["plan", str(file)]) == 0
    said = capsys.readouterr().out
    assert "once for this data: about" in said
    assert (
        "to train the classifier that images are compared by (some of its steps timed here)" in said
    )
    make_ready(Experiment.from_yaml(file), load_settings())
    assert len(list((tmp_path / "home" / "cache").glob("classifier-*.pt"))) == 1
    assert invoke(["plan", str(file)]) == 0
    assert "classifier that images" not in capsys.readouterr().out


def test_fewer_images_than_dimensions_are_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "{kind: digits}")
    assert invoke(["validate", str(file)]) == 0
    assert "fid of 8 images in 64 dimensions (pixels)" in capsys.readouterr().out
