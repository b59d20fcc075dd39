"""How are images compared by today's encoders? DINOv2 and CLIP from a folder or a hub name, through transformers."""

from __future__ import annotations

import hashlib
import importlib.util
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainer.bounds import Size
from trainer.data import Source
from trainer.data.base import DataSpec
from trainer.errors import EnvironmentProblem, UserError
from trainer.evaluation.features.base import Extractor, FeatureSpace, needs_colours
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class _Encoder(FeatureSpace):
    """What the encoders share: images are resized to a square by an antialiased bicubic filter and normalized."""

    mean: ClassVar[tuple[float, float, float]]
    """Of the channels in [0, 1], subtracted."""
    spread: ClassVar[tuple[float, float, float]]
    """Standard deviation of the channels, divided by."""

    model: str
    """Folder with config.json and model.safetensors, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Commit of a hub name: without one, whatever is there when it is first downloaded."""
    side: Size = 224
    """Height and width that the encoder sees."""

    def dimensions(self, shape: tuple[int, ...]) -> int | None:
        """As its configuration says."""
        return None

    def foresee(self, data: DataSpec) -> None:
        """Images, grey or in colours."""
        needs_colours(self.kind, data.shape)

    def ready(self) -> None:
        """The package is installed."""
        if importlib.util.find_spec("transformers") is None:
            raise EnvironmentProblem(
                f"evaluation.features: {self.kind} needs the package transformers: "
                "pip install 'diffsweep[encoders]', or use features: {kind: classifier}"
            )

    def build(self, source: Source, cache: Path) -> Extractor:
        """The encoder; its weights are read from safetensors only.

        Raises UserError where the model does not load as this kind, EnvironmentProblem without transformers.
        """
        needs_colours(self.kind, source.codec.shape)
        self.ready()
        network = self._network().to(source.device).eval().requires_grad_(False)
        digest = hashlib.sha256()
        for value in network.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
        mean, spread = (
            torch.tensor(values, device=source.device)[:, None, None]
            for values in (self.mean, self.spread)
        )

        @torch.inference_mode()
        def extract(x: Tensor) -> Tensor:
            pixels = (x.float().clamp(-1.0, 1.0) + 1.0) * 0.5
            pixels = pixels[:, :1].expand(-1, 3, -1, -1) if pixels.shape[1] != 3 else pixels
            size = (self.side, self.side)
            large = torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True)
            return self.encoded(network, (large.clamp(0.0, 1.0) - mean) / spread)

        return Extractor(extract, digest.hexdigest()[:12])

    def _network(self) -> nn.Module:
        try:
            return self.loader()(
                self.model, revision=self.revision, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise UserError(
                f"evaluation.features.model: {self.model} does not load as {self.kind} ({reason}): write a folder "
                "with config.json and model.safetensors, or a name on the hub that this machine can reach"
            ) from None

    @abstractmethod
    def loader(self) -> Callable[..., nn.Module]:
        """What makes the network of a folder or a name."""

    @abstractmethod
    def encoded(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """Features [B, D] of normalized pixels [B, 3, side, side]."""


class DINOv2(_Encoder):
    """Class token of DINOv2 (Oquab et al. 2023), the judge that Stein et al. 2023 found closest to people."""

    words: ClassVar[str] = (
        "the class token of a DINOv2 encoder (not the Inception features of papers)"
    )
    mean: ClassVar[tuple[float, float, float]] = (0.485, 0.456, 0.406)
    spread: ClassVar[tuple[float, float, float]] = (0.229, 0.224, 0.225)
    kind: Literal["dinov2"] = "dinov2"
    model: str = "facebook/dinov2-large"
    """Folder with config.json and model.safetensors, or a name on the Hugging Face hub."""

    def loader(self) -> Callable[..., nn.Module]:
        """transformers' own class, not whatever the folder names."""
        from transformers import Dinov2Model

        return Dinov2Model.from_pretrained

    def encoded(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """The normalized class token."""
        found: Any = network(pixel_values=pixels)
        return found.pooler_output


class CLIP(_Encoder):
    """Image embedding of CLIP (Radford et al. 2021), which CMMD compares (Jayasumana et al. 2024); not normalized."""

    words: ClassVar[str] = "CLIP image embeddings (not the Inception features of papers)"
    mean: ClassVar[tuple[float, float, float]] = (0.48145466, 0.4578275, 0.40821073)
    spread: ClassVar[tuple[float, float, float]] = (0.26862954, 0.26130258, 0.27577711)
    kind: Literal["clip"] = "clip"
    model: str = "openai/clip-vit-large-patch14"
    """Folder with config.json and model.safetensors, or a name on the Hugging Face hub."""

    def loader(self) -> Callable[..., nn.Module]:
        """transformers' own class, not whatever the folder names."""
        from transformers import CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection.from_pretrained

    def encoded(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """After the projection into the space of texts."""
        found: Any = network(pixel_values=pixels)
        return found.image_embeds


PretrainedSpaces = DINOv2 | CLIP
"""The members of this file: a new encoder is one class above and one name here."""
