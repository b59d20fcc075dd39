"""What do public loops and ours train? The same networks on the same folders of images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from trainer.compiling import is_compiled, share
from trainer.distributed import World
from trainer.learner import build_network
from trainer.training import Training
from trainer.trial import TrialSpec

RATE, BETAS, DECAY = 1e-4, (0.95, 0.999), 1e-6
"""Of AdamW, as diffusers' train_unconditional has them."""


@dataclass(frozen=True)
class Setting:
    """What all of them train."""

    name: str
    model: dict[str, Any]
    channels: int
    side: int
    batch: int
    count: int = 1024
    """Images in the folder."""

    def images(self, place: Path) -> Path:
        """PNGs of smooth noise under `place`."""
        generator = torch.Generator().manual_seed(0)
        small = torch.randn(self.count, self.channels, 4, 4, generator=generator)
        x = functional.interpolate(small, size=(self.side, self.side), mode="bicubic")
        pixels = (x * 40 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        folder = place / "images"
        folder.mkdir()
        for number, one in enumerate(pixels):
            picture = one[..., 0] if self.channels == 1 else one
            Image.fromarray(picture).save(folder / f"{number:05d}.png")
        return folder

    def trial(
        self, images: Path, precision: str = "fp32", *, compiled: bool = False, **data: Any
    ) -> TrialSpec:
        """The same settings as the peers': DDPM's objective on the cosine table."""
        folder = {"kind": "image_folder", "path": str(images), "size": self.side, "flip": True}
        return TrialSpec.model_validate(
            {
                "data": folder | data,
                "model": self.model,
                "diffusion": {
                    "schedule": {"kind": "cosine", "steps": 1000},
                    "conditioning": "step",
                },
                "optimizer": {"lr": RATE, "betas": BETAS, "weight_decay": DECAY},
                "ema": {"kind": "inverse_power", "power": 0.75},
                "train": {
                    "kimg": 1000.0,
                    "batch_size": self.batch,
                    "precision": precision,
                    "compile": compiled,
                },
                "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 2, "steps": 1}},
            }
        )


QUICKSTART = Setting(
    "quickstart network, batch 128",
    {"kind": "unet", "channels": [24, 48], "blocks": 1}, 3, 8, 128,
)  # fmt: skip
_DOWN, _UP = ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"], ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]  # fmt: skip
_UNET = {"layers_per_block": 2, "down_block_types": _DOWN, "up_block_types": _UP}
HOST_BOUND = Setting(
    "host-bound network, batch 16",
    {
        "kind": "diffusers_unet",
        "config": _UNET
        | {"block_out_channels": [8, 8, 8], "norm_num_groups": 4, "attention_head_dim": 8},
    }, 3, 8, 16,
)  # fmt: skip
COMPUTE_BOUND = Setting(
    "compute-bound network (6.5 M), batch 16",
    {
        "kind": "diffusers_unet",
        "config": _UNET
        | {"block_out_channels": [64, 128, 128], "norm_num_groups": 32, "attention_head_dim": 64},
    }, 3, 32, 16,
)  # fmt: skip


class Loop(Protocol):
    """Something that trains."""

    network: nn.Module
    owner: Any
    """Its method `backward` makes the gradients."""

    def steps(self, count: int) -> None:
        """So many steps."""


class Ours:
    """The trainer's steps, and the loss curve where it is due."""

    def __init__(self, trial: TrialSpec, place: Path) -> None:
        source = trial.data.load(Path(), place / "cache").to(torch.device("cpu"))
        if trial.train.compile:
            share(place / "cache", source.device)
        self.training = Training(trial, source, World(0, 1))
        self.network, self.owner = self.training.learner.network, self.training.scaled

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.training.step()
            if self.training.at_loss_point:
                self.training.read_losses()


def network_of(setting: Setting, images: Path) -> nn.Module:
    """As ours begins."""
    return build_network(
        setting.trial(images), (setting.channels, setting.side, setting.side)
    ).train()


class Inside:
    """CPU seconds that a loop spends in its network and in the backward pass."""

    def __init__(self, loop: Loop) -> None:
        self.seconds, self._began = 0.0, math.nan
        if is_compiled(loop.network):  # a hook would be compiled, too
            loop.network._compiled_call_impl = self._timed(loop.network._compiled_call_impl)
        else:
            loop.network.register_forward_pre_hook(lambda *_: self._begin())
            loop.network.register_forward_hook(lambda *_: self._end())
        loop.owner.backward = self._timed(loop.owner.backward)

    @property
    def now(self) -> bool:
        """Whether it is in one of them."""
        return not math.isnan(self._began)

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            self._begin()
            try:
                return work(*given, **named)
            finally:
                self._end()

        return timed

    def _begin(self) -> None:
        self._began = time.process_time()

    def _end(self) -> None:
        self.seconds += time.process_time() - self._began
        self._began = math.nan
