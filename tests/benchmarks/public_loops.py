"""Training loops that others publish, over a network and a folder of images that are given.

Each does whole steps: data, noising, forward, backward, clip, optimizer, average, and what it tells its trackers.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.side_by_side import installed
from tests.benchmarks.trained_alike import BETAS, DECAY, RATE, Loop, Setting, network_of


class _Named(nn.Module):
    """A network as diffusers calls it: integer timesteps in, `.sample` out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, timesteps: Tensor) -> Any:
        return types.SimpleNamespace(sample=self.network(x, timesteps / 1000.0))


def _transforms(side: int) -> list[Any]:
    from torchvision import transforms as T

    return [T.Resize(side, interpolation=T.InterpolationMode.BILINEAR), T.CenterCrop(side)]


class HuggingFace:
    """diffusers' examples/unconditional_image_generation/train_unconditional.py."""

    def __init__(self, setting: Setting, images: Path, place: Path) -> None:
        import datasets
        from accelerate import Accelerator
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel
        from torchvision import transforms as T
        from tqdm.auto import tqdm

        datasets.disable_progress_bars()
        self.accelerator = self.owner = Accelerator(cpu=True, project_dir=str(place))
        self.network = network_of(setting, images)
        model = _Named(self.network)
        self.ema = EMAModel(
            model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
        )
        self.noising = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY, eps=1e-8
        )
        kept = str(place / "datasets")
        data = datasets.load_dataset(
            "imagefolder", data_dir=str(images), split="train", cache_dir=kept
        )
        mode = "L" if setting.channels == 1 else "RGB"
        augmented = T.Compose(
            [
                *_transforms(setting.side),
                T.RandomHorizontalFlip(),
                T.ToTensor(),
                T.Normalize([0.5], [0.5]),
            ]
        )
        data.set_transform(
            lambda rows: {"input": [augmented(one.convert(mode)) for one in rows["image"]]}
        )
        loader = torch.utils.data.DataLoader(
            data, batch_size=setting.batch, shuffle=True, drop_last=True
        )
        rates = get_scheduler("constant", optimizer=optimizer)
        self.model, self.optimizer, self.loader, self.rates = self.accelerator.prepare(
            model, optimizer, loader, rates
        )
        self.bar = tqdm(total=10**6, file=open(os.devnull, "w"))  # noqa: SIM115
        self.step = 0
        self._batches = self._endless()

    def _endless(self) -> Iterator[Tensor]:
        while True:
            for batch in self.loader:
                yield batch["input"]

    def steps(self, count: int) -> None:
        for _ in range(count):
            clean = next(self._batches)
            noise = torch.randn(clean.shape, dtype=torch.float32, device=clean.device)
            timesteps = torch.randint(0, 1000, (clean.shape[0],), device=clean.device).long()
            self.update(clean, noise, timesteps)

    def update(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> float:
        """A step on what was drawn; its loss."""
        accelerator, model = self.accelerator, self.model
        noisy = self.noising.add_noise(clean, noise, timesteps)
        with accelerator.accumulate(model):
            output = model(noisy, timesteps).sample
            loss = functional.mse_loss(output.float(), noise.float())
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            self.optimizer.step()
            self.rates.step()
            self.optimizer.zero_grad()
        if accelerator.sync_gradients:
            self.ema.step(model.parameters())
            self.bar.update(1)
            self.step += 1
        rate = self.rates.get_last_lr()[0]
        logs = {"loss": loss.detach().item(), "lr": rate, "step": self.step}
        logs["ema_decay"] = self.ema.cur_decay_value
        self.bar.set_postfix(**logs)
        accelerator.log(logs, step=self.step)
        return float(logs["loss"])


class KDiffusion:
    """k-diffusion's train.py; its learning rate as a LambdaLR, since its own class fails on this torch."""

    def __init__(self, setting: Setting, images: Path, place: Path) -> None:
        sys.modules.setdefault("clip", types.ModuleType("clip"))  # for text, which is not read here
        import accelerate
        import k_diffusion
        from torchvision import transforms as T
        from tqdm.auto import tqdm

        self.k = k_diffusion
        self.accelerator = self.owner = accelerate.Accelerator(cpu=True)
        self.network = network_of(setting, images)
        inner = _OfSigma(self.network)
        inner_ema = copy.deepcopy(inner)
        optimizer = torch.optim.AdamW(
            inner.parameters(), lr=RATE, betas=BETAS, eps=1e-6, weight_decay=1e-3
        )
        rates = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda n: (1 - 0.99 ** (n + 1)) * (1 + n / 20000.0) ** -1.0
        )
        self.warmup = k_diffusion.utils.EMAWarmup(power=0.6667, max_value=0.9999)
        augmented = T.Compose(
            [
                *_transforms(setting.side),
                k_diffusion.augmentation.KarrasAugmentationPipeline(0.12),
            ]
        )
        files = _Files(images, augmented, setting.channels)
        loader = torch.utils.data.DataLoader(files, setting.batch, shuffle=True, drop_last=True)
        inner, inner_ema, self.optimizer, self.loader = self.accelerator.prepare(
            inner, inner_ema, optimizer, loader
        )
        self.rates = rates
        self.model = k_diffusion.layers.Denoiser(inner, sigma_data=0.5)
        self.model_ema = k_diffusion.layers.Denoiser(inner_ema, sigma_data=0.5)
        self.bar = tqdm(total=10**6, file=open(os.devnull, "w"))  # noqa: SIM115
        self._batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def steps(self, count: int) -> None:
        accelerator, model, utils = self.accelerator, self.model, self.k.utils
        for _ in range(count):
            reals, told = next(self._batches)
            with accelerator.accumulate(model):
                noise = torch.randn_like(reals)
                sigma = utils.rand_log_normal([len(reals)], loc=-1.2, scale=1.2)
                losses = model.loss(reals, noise, sigma, aug_cond=told)
                accelerator.gather(losses).mean().item()
                accelerator.backward(losses.mean())
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                self.optimizer.step()
                self.rates.step()
                self.optimizer.zero_grad()
                if accelerator.sync_gradients:
                    utils.ema_update(model, self.model_ema, self.warmup.get_value())
                    self.warmup.step()
            self.bar.update(1)


class _OfSigma(nn.Module):
    """A network as k-diffusion calls it; what augmentation tells is not read."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor, aug_cond: Tensor | None = None) -> Tensor:
        return self.network(x, sigma.log() / 4)


class _Files(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, images: Path, augmented: Callable[..., Any], channels: int) -> None:
        self.files, self.augmented, self.channels = sorted(images.iterdir()), augmented, channels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.files[number]) as picture:
            x, _, told = self.augmented(picture.convert("RGB"))
        return x[: self.channels], told


class Lucidrains:
    """denoising-diffusion-pytorch's Trainer; it decodes in this process, or its work would not be counted."""

    def __init__(self, setting: Setting, images: Path, place: Path) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Trainer
        from denoising_diffusion_pytorch import denoising_diffusion_pytorch as module

        self.network = network_of(setting, images)
        model = _SelfConditioned(self.network, setting.channels)
        diffusion = GaussianDiffusion(
            model, image_size=setting.side, timesteps=1000, objective="pred_noise"
        )
        module.cpu_count = lambda: 0
        module.tqdm = _Silent
        self.trainer = Trainer(
            diffusion, str(images), train_batch_size=setting.batch, train_lr=RATE,
            train_num_steps=0, calculate_fid=False, save_and_sample_every=10**9,
            results_folder=str(place / "lucidrains"),
        )  # fmt: skip
        self.owner = self.trainer.accelerator
        self.owner.print = lambda *_: None

    def steps(self, count: int) -> None:
        self.trainer.train_num_steps += count
        self.trainer.train()


class _SelfConditioned(nn.Module):
    """A network as lucidrains' GaussianDiffusion calls it."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network, self.channels, self.out_dim = network, channels, channels
        self.self_condition = self.random_or_learned_sinusoidal_cond = False

    def forward(self, x: Tensor, timesteps: Tensor, _before: Tensor | None = None) -> Tensor:
        return self.network(x, timesteps / 1000.0)


def _Silent(*given: Any, **named: Any) -> Any:  # noqa: N802
    from tqdm.auto import tqdm

    return tqdm(*given, **{**named, "file": open(os.devnull, "w")})


PEERS: dict[str, tuple[str, Callable[[Setting, Path, Path], Loop]]] = {
    "diffusers train_unconditional": ("accelerate", HuggingFace),
    "k-diffusion train.py": ("k_diffusion", KDiffusion),
    "lucidrains Trainer": ("denoising_diffusion_pytorch", Lucidrains),
}
"""Its package, and how to make it."""


def peers(setting: Setting, images: Path, place: Path) -> dict[str, Loop | None]:
    """Those that are installed, ready to train; None: not installed."""
    found: dict[str, Loop | None] = {}
    for name, (package, make) in PEERS.items():
        own = Path(tempfile.mkdtemp(dir=place))
        found[name] = make(setting, images, own) if installed(package) else None
    return found
