"""What do Inception's features of an image cost? Ours in float32 and bfloat16 beside four packages for FID.

All have the same made-up weights: the published ones are a download, and neither speed nor agreement hangs on them.
torch-fidelity and torchmetrics get tensors, pytorch-fid and clean-fid folders of PNG files, as they take them. What
clean-fid downloads is TorchScript; in its place stands the same network, traced and frozen.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.benchmarks.image_input import folder_of_images
from tests.benchmarks.side_by_side import (
    Report,
    Result,
    Unit,
    Work,
    alternate,
    gate,
    installed,
    one_thread,
    results,
)
from trainer.data import ImageFolder
from trainer.evaluation.features import Inception
from trainer.evaluation.metric import Moments, Reference, frechet_distance

ROW = 5
COUNT, ROUNDS = 32, 3
PEERS = {"torch-fidelity": 32, "torchmetrics": 32, "pytorch-fid": 32, "clean-fid": 32}
"""Images that each takes at once."""
GOALS = {"float32": 1.7, "bfloat16": 3.0}
MOST_ERROR, MOST_SHIFT = 1e-6, 0.01
UNIT = Unit("s per 1000 images", 1e3)
_PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"


def made_up(folder: Path) -> Path:
    """A file of weights for Inception with which no layer dies or explodes, where torch's cache has pytorch-fid's."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state: Any, *_: Any, **__: Any) -> None:
            assert state == {}

    torch.save({}, folder / "empty.pth")
    network = Untrained("inception", ["2048"], str(folder / "empty.pth"))
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.normal_(0.0, (2.0 / layer.weight[0].numel()) ** 0.5, generator=generator)
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.running_mean, layer.bias):
                value.normal_(0.0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
    file = folder / "hub" / "checkpoints" / _PUBLISHED
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    return file


def ours(weights: Path, images: Path, precision: str) -> Callable[[Tensor], Tensor]:
    """Features of x0 [B, 3, H, W], as an evaluation asks for them."""
    space = Inception.model_validate({"weights": str(weights), "rung_precision": precision})
    source = ImageFolder(path=str(images)).load(images, images.parent)
    return space.build(source.to(torch.device("cpu")), images.parent).features


def fidelity(weights: Path) -> Callable[[Tensor], Tensor]:
    """torch-fidelity's, of uint8 [B, 3, H, W]."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("inception", ["2048"], str(weights))
    return lambda pixels: network(pixels)[0]


def agreement(report: Report, weights: Path, images: Path, pixels: Tensor) -> None:
    """Equal features in float32, and in bfloat16 an equal distance of one half of the images to the other."""
    x0, expected = pixels / 127.5 - 1.0, fidelity(weights)(pixels)
    exact = ours(weights, images, "float32")(x0)
    gate(report, "features in float32 against torch-fidelity", _apart(exact, expected), MOST_ERROR)
    cheap = ours(weights, images, "bfloat16")(x0)
    shift = _distance(cheap) / _distance(exact) - 1.0
    gate(report, "FID in bfloat16 against float32", abs(shift), MOST_SHIFT)
    report(f"  features in bfloat16 against float32: {_apart(cheap, exact):.2g}; FID {shift:+.2%}")


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _distance(features: Tensor) -> float:
    """The Frechet distance of the first half to the second."""
    generated, real = features.chunk(2)
    moments = Moments.empty(features.shape[1])
    moments.add(generated)
    return frechet_distance(moments, Reference.of(real), generated)


def peers(weights: Path, images: Path, pixels: Tensor) -> Iterator[tuple[str, Work]]:
    """Those that are installed, each with its own way from images to features."""
    files = sorted(images.rglob("*.png"))

    def all_of(look: Callable[[Tensor], object], at_once: int) -> Work:
        def work() -> float:
            with torch.inference_mode():
                for some in torch.split(pixels, at_once):
                    look(some)
            return len(pixels)

        return work

    yield "torch-fidelity", all_of(fidelity(weights), PEERS["torch-fidelity"])
    if installed("torchmetrics"):
        from torchmetrics.image.fid import FrechetInceptionDistance

        fid = FrechetInceptionDistance(feature_extractor_weights_path=str(weights))
        yield "torchmetrics", all_of(lambda x: fid.update(x, real=False), PEERS["torchmetrics"])
    if not installed("pytorch_fid"):
        return
    from pytorch_fid.fid_score import get_activations
    from pytorch_fid.inception import InceptionV3

    network = InceptionV3([3])

    def pytorch_fid() -> float:
        with redirect_stderr(io.StringIO()):  # its progress bar
            get_activations(files, network, PEERS["pytorch-fid"], num_workers=0)
        return len(files)

    yield "pytorch-fid", pytorch_fid
    if not installed("cleanfid"):
        return
    from cleanfid.fid import get_files_features

    plain = InceptionV3([3], resize_input=False, normalize_input=False).eval()
    with warnings.catch_warnings(action="ignore"):  # torch would rather have it compiled
        frozen = torch.jit.freeze(torch.jit.trace(plain, torch.zeros(2, 3, 299, 299)))

    def features(x: Tensor) -> Tensor:
        return frozen((x - 128.0) / 128.0)[0].flatten(1)

    def clean_fid() -> float:
        with torch.inference_mode():
            get_files_features(
                [str(file) for file in files], features, num_workers=0, batch_size=PEERS["clean-fid"],
                device=torch.device("cpu"), mode="clean", verbose=False,
            )  # fmt: skip
        return len(files)

    yield "clean-fid", clean_fid


@contextmanager
def torch_home(folder: Path) -> Iterator[None]:
    """torch's cache of downloads, elsewhere."""
    before = os.environ.get("TORCH_HOME")
    os.environ["TORCH_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("TORCH_HOME") if before is None else os.environ.update(TORCH_HOME=before)


@contextmanager
def given(count: int) -> Iterator[tuple[Path, Path, Tensor]]:
    """Weights, a folder of images, and the images as uint8 [count, 3, H, W]."""
    with tempfile.TemporaryDirectory() as name, torch_home(Path(name)), torch.no_grad():
        images = Path(name) / "images"
        images.mkdir()
        folder_of_images(images, count)
        source = ImageFolder(path=str(images)).load(images, Path(name)).to(torch.device("cpu"))
        yield made_up(Path(name)), images, source.read(torch.arange(count))


def main(report: Report = print, count: int = COUNT, rounds: int = ROUNDS) -> list[Result]:
    """Print both precisions beside every peer."""
    one_thread()
    with given(count) as (weights, images, pixels):
        agreement(report, weights, images, pixels)
        x0 = pixels / 127.5 - 1.0

        def work(precision: str) -> Work:
            features = ours(weights, images, precision)
            return lambda: len(features(x0))

        cases = {precision: work(precision) for precision in GOALS}
        spent = alternate(cases | dict(peers(weights, images, pixels)), rounds)
    found = []
    for precision, goal in GOALS.items():
        measure = f"Inception features, {precision}"
        found += results(ROW, measure, precision, spent, dict.fromkeys(PEERS, goal), UNIT)
    for one in found:
        report(str(one))
    return found
