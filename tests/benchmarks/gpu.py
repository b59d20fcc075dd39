"""On a CUDA device: steps beside diffusers' loop, what a recorded step saves, inputs, samples, features, distances.

Times are wall seconds of one process, with the device waited for; images are noise, so that speeds alone mean
something. Equal numbers are the tests' matter (tests/trainer/test_replayed.py runs on a GPU where there is one).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.side_by_side import Report
from trainer.data import Resident
from trainer.distributed import World
from trainer.ensemble import Ensemble
from trainer.evaluation.generation import Generation, generate
from trainer.evaluation.metric import Moments, Reference, frechet_distance
from trainer.learner import build_network
from trainer.replayed import Forward
from trainer.training import Training
from trainer.trial import TrialSpec

STEPS, WARM = 20, 6
NETWORKS: dict[str, dict[str, Any]] = {
    "0.06 M": {"layout": "ddpm", "channels": [8, 8], "blocks": 2, "groups": 4},
    "4.2 M": {"layout": "ddpm", "channels": [64, 128, 128], "blocks": 1, "attention": [1]},
    "33.5 M": {
        "layout": "ddpm",
        "channels": [128, 256, 256, 256],
        "blocks": 2,
        "attention": [1],
        "dropout": 0.1,
    },
}
CASES = [
    ("0.06 M", 16, "fp32", False),
    ("4.2 M", 32, "fp32", False),
    ("4.2 M", 512, "fp32", False),
    ("4.2 M", 512, "bf16", False),
    ("4.2 M", 512, "bf16", True),
    ("33.5 M", 128, "fp32", False),
    ("33.5 M", 128, "bf16", False),
    ("33.5 M", 128, "bf16", True),
]
"""Network, batch, precision, whether it is compiled."""


def images(count: int = 4096) -> Resident:
    """Noise of CIFAR-10's shape, on the device."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator).byte()
    return Resident.of(pixels.cuda(), levels=255, flip=True)


def trial(network: str, batch: int, precision: str = "fp32", **train: Any) -> TrialSpec:
    """A training long enough to be timed."""
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": {"kind": "unet", **NETWORKS[network]},
            "train": {"kimg": 4.0 * batch, "batch_size": batch, "precision": precision, **train},
            "evaluation": {
                "evaluations": 1,
                "features": {"kind": "pixels"},
                "full": {"images": 2, "steps": 1},
            },
        }
    )


def timed(work: Callable[[], object], count: int = STEPS, warm: int = WARM) -> tuple[float, float]:
    """Milliseconds of one call, and those for which the host was busy with it."""
    for _ in range(warm):
        work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        work()
    host = time.perf_counter() - began
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began) / count, 1e3 * host / count


def ours(spec: TrialSpec, source: Resident, *, recorded: bool = True) -> tuple[Training, Any]:
    """A training, and its step."""
    training = Training(spec, source, World(0, 1))
    if not recorded:
        training._replayed._fits = False

    def step() -> None:
        training.step()
        training._pending.clear()

    return training, step


class _Items(Dataset[Tensor]):
    """One image at a time, converted and flipped on the processor, as an image folder's are."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels.cpu()

    def __len__(self) -> int:
        return 10**7

    def __getitem__(self, number: int) -> Tensor:
        x = self._pixels[number % len(self._pixels)].float() / 127.5 - 1.0
        return x.flip(-1) if torch.rand(()) < 0.5 else x


def diffusers_loop(spec: TrialSpec, source: Resident) -> Callable[[], float]:
    """What diffusers' unconditional example does in a step, around the same network."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    network = build_network(spec, source.codec.shape).cuda()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True)
    average.to(torch.device("cuda"))
    noising = DDPMScheduler(1000)
    loader = iter(DataLoader(_Items(source.examples), spec.train.batch_size, num_workers=8))
    half = spec.train.precision == "bf16"

    def step() -> float:
        x0 = next(loader).cuda()
        eps = torch.randn_like(x0)
        t = torch.randint(0, 1000, (len(x0),), device=x0.device)
        x_t = noising.add_noise(x0, eps, t)
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            out = network(x_t, t / 1000)
        loss = functional.mse_loss(out.float(), eps)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(network.parameters())
        return loss.detach().item()

    return step


@contextmanager
def alone() -> Iterator[None]:
    """With the device's memory to itself."""
    torch.backends.cudnn.deterministic = True  # as trainings are
    yield
    gc.collect()
    torch.cuda.empty_cache()
    torch._dynamo.reset()


def steps(report: Report, source: Resident) -> None:
    """Ours one kernel at a time and recorded, and diffusers' loop."""
    for network, batch, precision, compiles in CASES:
        name = f"{network}, batch {batch}, {precision}{', compiled' if compiles else ''}"
        spec = trial(network, batch, precision, compile=compiles)
        with alone():
            _, step = ours(spec, source, recorded=False)
            eager, _ = timed(step)
        with alone():
            training, step = ours(spec, source)
            recorded, host = timed(step)
            flops = 3.0 * (training.flops_per_image() or 0.0) * batch / recorded / 1e9
        with alone():
            theirs, _ = timed(diffusers_loop(spec, source))
        report(
            f"step, {name}: {recorded:.2f} ms recorded (host {host:.2f}), {eager:.2f} ms kernel by kernel, "
            f"{theirs:.2f} ms diffusers: {theirs / recorded:.1f}x; {1e3 * batch / recorded:,.0f} img/s, "
            f"{flops:.0f} TFLOP/s"
        )


def inputs(report: Report, source: Resident) -> None:
    """A step whose examples are drawn, and one that has the same ones again."""
    training, step = ours(trial("4.2 M", 512, "bf16"), source)
    drawing, _ = timed(step)
    drawn = training.update.batches.draw(0, 512)
    training.update.batches.draw = lambda *_: drawn  # type: ignore[method-assign]
    same, _ = timed(step)
    report(f"input, 4.2 M, batch 512, bf16: {100 * (drawing / same - 1):+.2f} % of a step")


def samples(report: Report, source: Resident) -> None:
    """512 images in 15 steps."""
    generation = Generation(images=512, steps=15)
    for name in NETWORKS:
        spec = trial(name, 16)
        network = build_network(spec, source.codec.shape).cuda().eval()
        rest = (spec.diffusion, source.codec, generation, range(512), 0, (), "cuda")
        ways = {"kernel by kernel": network, "replayed": Forward(network)}
        ms = {way: timed(partial(generate, call, *rest), 3, 2)[0] for way, call in ways.items()}
        told = ", ".join(f"{value / 512:.3f} s {way}" for way, value in ms.items())
        report(f"1000 samples in 15 steps, {name}: {told}")


def distances(report: Report) -> None:
    """In 2048 dimensions, the reference's root being there."""
    sets = [torch.randn(5000, 2048, device="cuda") for _ in range(2)]
    moments = [Moments.empty(2048, x.device) for x in sets]
    for one, x in zip(moments, sets, strict=True):
        one.add(x)
    reference = Reference.of_moments(moments[0])
    ms, _ = timed(lambda: frechet_distance(moments[1], reference), 3, 1)
    report(f"Frechet distance, 2048 dimensions: {ms:.0f} ms")


def many(report: Report, source: Resident) -> None:
    """Trials in one process: in turns, each recorded step on a stream of its own, and as one program."""
    for network, batch in (("0.06 M", 16), ("4.2 M", 32)):
        alone = _rate(network, batch, 1, source, joint=False)
        for joint, how in ((False, "a stream each"), (True, "one program")):
            rates = {count: _rate(network, batch, count, source, joint=joint) for count in (4, 16)}
            told = ", ".join(f"{n}: {rate:.0f} ({rate / alone:.1f}x)" for n, rate in rates.items())
            name = f"{network}, batch {batch}, {how}"
            report(f"steps/s of trials in one process, {name}: 1: {alone:.0f}, {told}")


def _rate(network: str, batch: int, count: int, source: Resident, *, joint: bool) -> float:
    """Steps a second of all."""
    specs = [trial(network, batch).model_copy(update={"seed": seed}) for seed in range(count)]
    trainings = [ours(spec, source)[0] for spec in specs]
    streams = [torch.cuda.Stream(source.device) for _ in trainings]  # type: ignore[no-untyped-call]

    def in_turns() -> None:
        for training, stream in zip(trainings, streams, strict=True):
            with torch.cuda.stream(stream):
                training.step()

    ms, _ = timed(Ensemble(trainings).step if joint else in_turns, STEPS, WARM)
    return count * 1e3 / ms


def main(report: Report = print) -> None:
    """All of them. SystemExit where there is no GPU, before anything that was measured on one is written over."""
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here")
    source = images()
    steps(report, source)
    inputs(report, source)
    samples(report, source)
    distances(report)
    many(report, source)
