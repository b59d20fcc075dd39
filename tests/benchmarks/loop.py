"""Training images per second of `trainer.loop` against a plain diffusers-style loop.

Same network, batch, optimizer settings and data, alternating in one process on one thread. The plain
loop is what diffusers' unconditional example does: DataLoader, DDPMScheduler.add_noise, AdamW,
gradient clipping, EMAModel, `loss.item()` every step. The ratio of CPU seconds is the number to read.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from trainer.learner import build_network
from trainer.loop import train
from trainer.trial import TrialSpec

ROUNDS = 6
STEPS = 25

NETWORKS: dict[str, dict[str, Any]] = {
    "quickstart (249,113 parameters, batch 128)": {"channels": [24, 48], "blocks": 1},
    "host-bound (same blocks, 8 channels)": {"channels": [8, 8], "blocks": 2},
}


def trial(model: dict[str, Any]) -> TrialSpec:
    """The quickstart's step with an evaluation that costs nothing every STEPS steps."""
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": {"kind": "unet", **model},
            "optimizer": {"lr": 1e-3},
            "train": {"kimg": 0.128 * STEPS * (ROUNDS + 1), "batch_size": 128},
            "evaluation": {
                "evaluations": ROUNDS + 1,
                "features": {"kind": "pixels"},
                "full": {"images": 2, "steps": 1},
            },
        }
    )


class _Items(Dataset[torch.Tensor]):
    """One example at a time, converted when it is asked for."""

    def __init__(self, spec: TrialSpec) -> None:
        self.data = spec.data.load(Path())

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.data.codec.scale(self.data.read(torch.tensor([i])))[0]


def plain(spec: TrialSpec) -> Iterator[int]:
    """The diffusers-style loop; yields images after every STEPS steps."""
    network = build_network(spec, (1, 8, 8))
    optimizer = torch.optim.AdamW(network.parameters(), spec.optimizer.lr)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True)
    noising = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    loader = DataLoader(_Items(spec), batch_size=128, shuffle=True, drop_last=True)
    step = 0
    while True:
        for x0 in loader:
            eps = torch.randn_like(x0)
            t = torch.randint(0, 1000, (len(x0),))
            x_t = noising.add_noise(x0, eps, t)
            loss = functional.mse_loss(network(x_t, t / 1000), eps)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            average.step(network.parameters())
            loss.item()
            step += 1
            if step % STEPS == 0:
                yield 128 * STEPS


def ours(spec: TrialSpec, directory: Path) -> Iterator[int]:
    """`trainer.loop.train`; yields images after every STEPS steps, its evaluation and checkpoint included."""
    for _ in train(spec, directory, cache=directory, device="cpu"):
        yield 128 * STEPS


def alternate(cases: dict[str, Iterator[int]]) -> dict[str, list[tuple[float, float]]]:
    """Per case and round: (CPU seconds, wall seconds) per image; the first round warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(ROUNDS + 1):
        for name, case in cases.items():
            cpu, wall = time.process_time(), time.perf_counter()
            images = next(case)
            used = (time.process_time() - cpu) / images, (time.perf_counter() - wall) / images
            seconds[name].append(used)
    return {name: rounds[1:] for name, rounds in seconds.items()}


def main(report: Callable[[str], None] = print) -> dict[str, float]:
    """Print img/s and the ratio plain / ours in CPU seconds per image, for each network."""
    torch.set_num_threads(1)
    ratios = {}
    for label, model in NETWORKS.items():
        spec = trial(model)
        with tempfile.TemporaryDirectory() as folder:
            measured = alternate({"plain": plain(spec), "ours": ours(spec, Path(folder))})
        pairs = [p[0] / o[0] for p, o in zip(measured["plain"], measured["ours"], strict=True)]
        ratios[label] = statistics.median(pairs)
        rate = {
            name: 1 / statistics.median(w for _, w in rounds) for name, rounds in measured.items()
        }
        report(
            f"loop, {label}: {rate['ours']:.0f} img/s against {rate['plain']:.0f} img/s of a plain "
            f"diffusers-style loop; CPU ratio {ratios[label]:.2f} [{min(pairs):.2f} .. {max(pairs):.2f}]"
        )
    return ratios
