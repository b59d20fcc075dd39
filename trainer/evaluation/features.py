"""In which space are images compared? Feature extractors: specs that build a frozen network."""

import hashlib
import io
import pickle
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from trainer.data import Source
from trainer.errors import EnvironmentProblem, UserError
from trainer.files import made_once
from trainer.randomness import Stream, derive
from trainer.spec import Spec


@dataclass(frozen=True)
class Extractor:
    """A frozen network that images are compared by."""

    features: Callable[[Tensor], Tensor]
    """x [B, ...] in [-1, 1] -> features [B, D]."""
    weights: str
    """Digest of the weights."""
    classify: Callable[[Tensor], Tensor] | None = None
    """Features [B, D] -> class probabilities float64 [B, K], where the network has classes."""


class FeatureSpace(Spec):
    """A member of the family: builds its extractor for a data set."""

    words: ClassVar[str]
    """What the space is, to be read after "in the feature space of"."""
    classifies: ClassVar[bool] = False
    """Whether its extractor also gives class probabilities."""

    @abstractmethod
    def build(self, source: Source, cache: Path) -> Extractor:
        """The extractor on the source's device. Raises UserError for data it cannot look at."""


class Pixels(FeatureSpace):
    """The values themselves: exact on toy data, a poor judge of images."""

    words: ClassVar[str] = "the pixels themselves"
    kind: Literal["pixels"] = "pixels"

    def build(self, source: Source, cache: Path) -> Extractor:
        """Flattening; there are no weights."""
        return Extractor(lambda x: x.flatten(1), "none")


class Classifier(FeatureSpace):
    """Last hidden layer of a small convolutional classifier, trained once on the data's labels and cached.

    Its Frechet distance ranks trials on one data set; it is not the Inception FID of papers.
    """

    words: ClassVar[str] = (
        "the last hidden layer of a small classifier trained on the data's own labels (it ranks trials on this "
        "data set; it is not the Inception FID of papers)"
    )
    classifies: ClassVar[bool] = True
    kind: Literal["classifier"] = "classifier"
    width: PositiveInt = 64
    """Dimensions of the feature space."""
    steps: PositiveInt = 600
    """Training steps of 128 images."""
    seed: int = 0
    """Seed of its initial weights, batches and shifts."""

    def build(self, source: Source, cache: Path) -> Extractor:
        """The trained extractor; training takes some seconds the first time. UserError: the data has no labels."""
        codec = source.codec
        if codec.classes is None:
            raise UserError(
                "evaluation.features: classifier needs labels, the data has none: "
                "put images into one sub-folder per class, or use kind: pixels"
            )
        network = _Classifier(codec.shape, self.width, codec.classes)

        def trained() -> bytes:
            _train(network, source, self.steps, self.seed)
            written = io.BytesIO()
            torch.save(network.state_dict(), written)
            return written.getvalue()

        content = made_once(cache / f"classifier-{source.fingerprint}-{self.digest()}.pt", trained)
        network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        network.eval().requires_grad_(False).to(source.device)
        weights = hashlib.sha256(content).hexdigest()[:12]
        return Extractor(network.features, weights, network.classify)


class Inception(FeatureSpace):
    """2048 pooled features of the TF1 Inception v3, as torch-fidelity has it: the FID of papers.

    Images are resized to 299 as TensorFlow 1 did. Without `weights`, torch's hub downloads them once.
    """

    words: ClassVar[str] = "Inception-v3 pool features"
    classifies: ClassVar[bool] = True
    kind: Literal["inception"] = "inception"
    weights: str | None = None
    """File of torch-fidelity's weights (weights-inception-2015-12-05-6726825d.pth); null: its usual download."""

    def build(self, source: Source, cache: Path) -> Extractor:
        """The published network.

        Raises UserError for data that are not images or weights that do not fit, EnvironmentProblem when
        the download fails.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        if len(source.codec.shape) != 3:
            raise UserError(
                "evaluation.features: inception needs images: use kind: pixels for points"
            )
        if self.weights is not None:
            self._check(self.weights)
        try:
            network = FeatureExtractorInceptionV3("inception", ["2048"], self.weights)
        except OSError as error:
            raise EnvironmentProblem(
                f"evaluation.features: the Inception weights cannot be downloaded ({error}): fetch "
                "weights-inception-2015-12-05-6726825d.pth elsewhere and name it in evaluation.features.weights"
            ) from None
        network = network.to(source.device, memory_format=torch.channels_last)
        digest = hashlib.sha256()
        for value in network.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())

        @torch.inference_mode()
        def extract(x: Tensor) -> Tensor:
            pixels = ((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
            pixels = pixels[:, :1].expand(-1, 3, -1, -1) if pixels.shape[1] != 3 else pixels
            return network(pixels)[0].flatten(1)

        @torch.inference_mode()
        def classify(features: Tensor) -> Tensor:
            # without bias, as Salimans et al. have it
            return (features.double() @ network.fc.weight.double().T).softmax(1)

        return Extractor(extract, digest.hexdigest()[:12], classify)

    @staticmethod
    def _check(weights: str) -> None:
        try:
            torch.load(weights, weights_only=True, map_location="meta")
        except OSError as error:
            raise UserError(f"evaluation.features.weights: {weights}: {error.strerror}") from None
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            raise UserError(
                f"evaluation.features.weights: {weights} is not a file of plain tensors"
            ) from None


AnyFeatures = Annotated[Classifier | Inception | Pixels, Field(discriminator="kind")]
"""The members of the family. A new extractor is one class above and one name here."""


class _Classifier(nn.Module):
    """Two halvings of convolutions, then a hidden layer of `width`: the features."""

    def __init__(self, shape: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        if len(shape) != 3:
            raise UserError(
                "evaluation.features: classifier needs images: use kind: pixels for points"
            )
        self.body = nn.Sequential(
            nn.Conv2d(shape[0], 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(2),
            nn.Flatten(), nn.Linear(256, width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    @torch.inference_mode()
    def features(self, x: Tensor) -> Tensor:
        """[B, width]."""
        return self.body(x.float())

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """[B, width] -> float64 [B, classes]."""
        weight, bias = self.head.weight.double(), self.head.bias.double()
        return functional.linear(features.double(), weight, bias).softmax(1)


def _train(network: nn.Module, source: Source, steps: int, seed: int) -> None:
    """One-cycle AdamW with shifts by a pixel and a little noise; seeded, so that a machine repeats itself."""
    pick, jitter = Stream(seed, "classifier/pick"), Stream(seed, "classifier/noise")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "classifier/init"))
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        index = torch.arange(step * 128, (step + 1) * 128)
        rows = (pick.uniform(index) * len(source)).long().to(source.device)
        x, y = source.codec.scale(source.read(rows)).cpu(), source.labels_of(rows)
        assert y is not None
        move = (pick.bits(torch.tensor([-2 * step - 1, -2 * step - 2])) % 3 - 1).tolist()
        batch = functional.pad(x, (1, 1, 1, 1), value=-1.0)
        batch = torch.roll(batch, move, (2, 3))[..., 1:-1, 1:-1]
        batch = batch + 0.05 * jitter.normal(index, source.codec.shape)
        loss = functional.cross_entropy(network(batch), y.cpu(), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
