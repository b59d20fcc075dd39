"""How is the FID of papers measured? By TF1's Inception v3, from weights that are checked before they are used."""

from __future__ import annotations

import hashlib
import io
import os
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from trainer.data import Source
from trainer.data.base import DataSpec
from trainer.errors import EnvironmentProblem, UserError
from trainer.evaluation.features.base import Extractor, FeatureSpace, needs_colours
from trainer.files import cache_lock
from trainer.lazily import torch
from trainer.spec import Incidental, Neutral

if TYPE_CHECKING:
    from torch import Tensor


_REACHABLE_S = 10.0
"""How long to wait for the server of the weights when it is only asked whether it is there."""
_PUBLISHED = "6726825d"
"""How the digest of the published file begins: torch's hub has put it into the name."""
_FIELD = "evaluation.features.weights"


class Inception(FeatureSpace):
    """2048 pooled features of the TF1 Inception v3, as torch-fidelity has it: the FID of papers.

    Images are resized to 299 as TensorFlow 1 did. Without `weights`, torch's hub downloads them once.
    """

    words: ClassVar[str] = "Inception-v3 pool features"
    classifies: ClassVar[bool] = True
    is_papers: ClassVar[bool] = True
    kind: Literal["inception"] = "inception"
    weights: Annotated[str | None, Incidental(None)] = None
    """File of torch-fidelity's weights (weights-inception-2015-12-05-6726825d.pth); null: its usual download."""
    content: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$"), Neutral(None)] = None
    """Digest of that file, filled in when the spec is read, so that a trial is known by it wherever the file lies;
    null: the published one."""
    rung_precision: Annotated[Literal["float32", "bfloat16"], Neutral("float32")] = "float32"
    """Arithmetic of the curve's cheap protocol (`rung`), which has protocol ids of its own by it: bfloat16 takes half
    the time of float32 and moves a distance by a percent. Reported numbers are float32."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("content") is not None:
            return data
        weights = data.get("weights")
        return {**data, "content": _content(weights)} if isinstance(weights, str) else data

    def reported(self) -> Inception:
        """In float32."""
        return self.model_copy(update={"rung_precision": "float32"})

    def called(self) -> str:
        """With the precision, where it is not the usual one."""
        return self.words + ("" if self == self.reported() else f", in {self.rung_precision}")

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """2048."""
        return 2048

    def foresee(self, data: DataSpec) -> None:
        """Images, grey or in colours."""
        needs_colours(self.kind, data.shape)

    def ready(self) -> None:
        """The weights are whole and this network's; absent ones can be downloaded."""
        if self.weights is None and not _hub_file().exists():
            _ask_server()
        else:
            self._network(self.weights)

    def prepare(self, source: Source, cache: Path) -> None:
        """Download."""
        if self.weights is None:
            _download_once()

    def build(self, source: Source, cache: Path) -> Extractor:
        """The published network.

        Raises UserError for data that are not images or weights that do not fit, EnvironmentProblem when
        the download fails or what was downloaded is damaged.
        """
        from trainer.evaluation.features.inception_network import pooled

        needs_colours(self.kind, source.codec.shape)
        if self.weights is None:
            _download_once()
        network = self._network(self.weights).to(source.device)
        digest = hashlib.sha256()
        for value in network.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
        head = network.fc.weight.double()
        layers = pooled(network, getattr(torch, self.rung_precision))

        @torch.inference_mode()
        def extract(x: Tensor) -> Tensor:
            pixels = ((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
            pixels = pixels[:, :1].expand(-1, 3, -1, -1) if pixels.shape[1] != 3 else pixels
            return layers(pixels)

        @torch.inference_mode()
        def classify(features: Tensor) -> Tensor:
            # without bias, as Salimans et al. have it
            return torch.nn.functional.linear(features.double(), head).softmax(1)

        return Extractor(extract, digest.hexdigest()[:12], classify)

    @staticmethod
    def _network(weights: str | None) -> Any:
        """With the weights of a file; UserError or EnvironmentProblem, whoever brought it, if it is not right."""
        file = _hub_file() if weights is None else Path(weights)
        try:
            return _loaded(_plain_tensors(file))
        except OSError as error:
            problem = f"{error.strerror or error}"
        except ValueError as error:
            problem = str(error)
        if weights is not None:
            raise UserError(
                f"{_FIELD}: {file}: {problem}: write where torch-fidelity's {_name()} is, or leave it out"
            ) from None
        raise EnvironmentProblem(
            f"evaluation.features: {file} in torch's cache: {problem}: delete it, then the same command downloads it "
            f"again; or name a whole one in {_FIELD}"
        ) from None


def _content(weights: str) -> str | None:
    """16 hex digits of sha256 over a file, or over its name while it cannot be read; None: the published file."""
    try:
        status = os.stat(weights)
        digest = _hashed(weights, (status.st_size, status.st_mtime_ns))
    except (OSError, ValueError):
        digest = hashlib.sha256(f"absent: {weights}".encode("utf-8", "surrogatepass")).hexdigest()
    return None if digest.startswith(_PUBLISHED) else digest[:16]


@lru_cache(maxsize=16)
def _hashed(weights: str, _state: tuple[int, int]) -> str:
    """sha256 of a file, read again when its size or time is another."""
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain_tensors(file: Path) -> dict[str, Any]:
    """What the file holds, nothing in it being run; ValueError if that is not named tensors."""
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception:  # a cut or foreign file fails in as many ways as it has bytes
        raise ValueError("is not a whole file of plain tensors") from None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError("is not a file of named tensors")
    return state


def _loaded(state: dict[str, Any]) -> Any:
    """torch-fidelity's network with these weights; ValueError if they are another network's.

    It reads files with pickle. What it gets here is not a file of the user's, but the checked tensors written anew.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    written = io.BytesIO()
    torch.save(state, written)
    written.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], written)
    except RuntimeError as error:
        first = str(error).partition("\n\t")[2].partition("\n")[0].strip()
        raise ValueError(f"holds the weights of another network ({first[:120]})") from None
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        raise ValueError("holds weights that are not finite")
    return network


def _url() -> str:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return str(URL_INCEPTION_V3)


def _name() -> str:
    return _url().rpartition("/")[2]


def _hub_file() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / _name()


def _download_once() -> None:
    """The first process that asks downloads, with a progress bar; the others wait for it."""
    file = _hub_file()
    if file.exists():
        return
    try:
        with cache_lock(file):
            if not file.exists():
                torch.hub.download_url_to_file(_url(), str(file))
    except OSError as error:
        raise _cannot_download(error) from None


def _ask_server() -> None:
    """EnvironmentProblem if nobody answers where the weights are published."""
    try:
        asked = urllib.request.Request(_url(), method="HEAD")
        urllib.request.urlopen(asked, timeout=_REACHABLE_S).close()
    except OSError as error:
        raise _cannot_download(error) from None


def _cannot_download(error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"evaluation.features: the Inception weights are not in {_hub_file().parent} and cannot be downloaded "
        f"({error}): fetch {_name()} elsewhere and name it in {_FIELD}, or use features: {{kind: classifier}}"
    )


PublishedSpaces = Inception
"""The members of this file: a new published network is one class above and one name here."""
