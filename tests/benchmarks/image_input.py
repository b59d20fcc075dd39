"""What does an input image cost? Ours, resident and streamed, against folders that are decoded item by item.

Ours decodes a folder once; the peers decode every PNG whenever it is seen, as diffusers' train_unconditional does:
Pillow, torchvision's resize, crop, flip and normalization, one item at a time in a DataLoader.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.benchmarks.side_by_side import Report, Result, Unit, Work, compared, gate, one_thread
from trainer.data import Batches, ImageFolder
from trainer.data.stored import VARIABLE

ROW = 3
COUNT, SIDE, BATCH = 1024, 32, 64
EPOCHS = 8
"""Of ours in a round, or there would be nothing to time."""
ROUNDS = 7
GOALS = {"resident": 30.0, "streamed": 10.0}
UNIT = Unit("us per image", 1e6)


def folder_of_images(place: Path, count: int) -> None:
    """RGB PNGs of smooth noise, so that a PNG is as large as a photograph's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, SIDE // 4, SIDE // 4, generator=generator)
    x = functional.interpolate(x, size=(SIDE, SIDE), mode="bicubic")
    x += 0.1 * torch.randn(x.shape, generator=generator)
    pixels = (x * 40 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    (place / "all").mkdir()
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(place / "all" / f"{number:05d}.png")


def ours(images: Path, cache: Path, how: str) -> Callable[[int], Iterator[Tensor]]:
    """Batches of x0 of an epoch, as training gets them."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "always" if how == "resident" else "never"
    try:
        source = ImageFolder(path=str(images), size=SIDE).load(images, cache)
        batches = Batches(source.to(torch.device("cpu")), seed=0)
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})
    assert batches.source.resident == (how == "resident")
    size = len(batches.source)

    def epoch(number: int) -> Iterator[Tensor]:
        for first in range(number * size, (number + 1) * size, BATCH):
            yield batches.get(first, BATCH)

    return epoch


def _transforms() -> Callable[[Any], Tensor]:
    from torchvision import transforms as T

    return T.Compose(
        [
            T.Resize(SIDE, interpolation=T.InterpolationMode.BILINEAR),
            T.CenterCrop(SIDE),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize([0.5], [0.5]),
        ]
    )


def folder(images: Path, _cache: Path) -> Callable[[int], Iterator[Tensor]]:
    """torchvision's ImageFolder behind a DataLoader."""
    from torchvision.datasets import ImageFolder as TorchvisionFolder

    items = TorchvisionFolder(str(images), _transforms())
    loader = torch.utils.data.DataLoader(items, BATCH, shuffle=True)
    return lambda _number: (x for x, _ in loader)


def hugging_face(images: Path, cache: Path) -> Callable[[int], Iterator[Tensor]]:
    """`datasets`' imagefolder behind a DataLoader."""
    import datasets

    datasets.disable_progress_bars()
    transform = _transforms()
    items = datasets.load_dataset(
        "imagefolder", data_dir=str(images), split="train", cache_dir=str(cache / "datasets")
    )
    items.set_transform(
        lambda rows: {"input": [transform(one.convert("RGB")) for one in rows["image"]]}
    )
    loader = torch.utils.data.DataLoader(items, BATCH, shuffle=True)
    return lambda _number: (batch["input"] for batch in loader)


PEERS = {
    "torchvision ImageFolder + DataLoader": folder,
    "datasets imagefolder + DataLoader": hugging_face,
}


def seen(epoch: Iterator[Tensor]) -> tuple[list[bytes], float]:
    """The images of an epoch as bytes, each the smaller of itself and its mirror image, sorted; and how far x0 is
    from the value that its byte means."""
    x0 = torch.cat(list(epoch))
    pixels = ((x0 + 1.0) * 127.5).round().to(torch.uint8)
    off = float((x0.double() - (pixels.double() / 127.5 - 1.0)).abs().max())
    pairs = zip(pixels.numpy(), pixels.flip(-1).numpy(), strict=True)
    return sorted(min(one.tobytes(), mirrored.tobytes()) for one, mirrored in pairs), off


def same_images(report: Report, epochs: dict[str, Callable[[int], Iterator[Tensor]]]) -> None:
    """Each sees every image once, and means the same by its bytes."""
    first: list[bytes] | None = None
    for name, epoch in epochs.items():
        images, off = seen(epoch(0))
        first = first or images
        differing = sum(a != b for a, b in zip(first, images, strict=True))
        gate(report, f"{name}: images that the first has not", differing, 0)
        gate(report, f"{name}: error of x0 in [-1, 1]", off, 2.5e-7)  # two roundings in float32


def main(report: Report = print, count: int = COUNT, rounds: int = ROUNDS) -> list[Result]:
    """Print both ways beside both peers."""
    one_thread()
    found = []
    with tempfile.TemporaryDirectory() as name:
        images, cache = Path(name) / "images", Path(name) / "cache"
        images.mkdir()
        cache.mkdir()
        folder_of_images(images, count)
        began = time.process_time()
        ours(images, cache, "resident")
        decoded = 1e6 * (time.process_time() - began) / count
        epochs = {how: ours(images, cache, how) for how in GOALS}
        epochs |= {peer: make(images, cache) for peer, make in PEERS.items()}
        same_images(report, epochs)
        for how, goal in GOALS.items():
            found += compared(
                ROW,
                f"input of {SIDE}x{SIDE} images, {how}",
                _work(epochs[how], EPOCHS),
                {peer: (_work(epochs[peer], 1), goal) for peer in PEERS},
                UNIT,
                rounds,
            )
    for one in found:
        report(str(one))
    report(f"  decoding, once for a data set: {decoded:.0f} us per image")
    return found


def _work(epoch: Callable[[int], Iterator[Tensor]], epochs: int) -> Work:
    number = 0

    def work() -> float:
        nonlocal number
        units = 0
        for _ in range(epochs):
            units += sum(len(x) for x in epoch(number))
            number += 1
        return units

    return work
