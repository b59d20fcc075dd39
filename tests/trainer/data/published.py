"""Small sets in the original formats on disk, as torchvision reads them; its md5 sums are replaced by theirs."""

import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

Patch = pytest.MonkeyPatch


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def mnist(root: Path, name: str = "MNIST", train: int = 25, test: int = 12) -> None:
    """The idx format: magic number, sizes big-endian, bytes."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        head = struct.pack(">4i", 2051, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            head + pixels(count, count, 28, 28).tobytes()
        )
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())  # fmt: skip


def cifar10(root: Path, patch: Patch, each: int = 4) -> None:
    """Pickled dicts of rows [N, 3072]; the label of row i is i mod 10, counted through the batches."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sums = {}
    for number, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        labels = [(each * number + i) % 10 for i in range(each)]
        content = {"data": pixels(number, each, 3072), "labels": labels}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = md5(folder / name)
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]  # fmt: skip
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
    *train, test = sums.items()
    patch.setattr(datasets.CIFAR10, "train_list", [list(one) for one in train])
    patch.setattr(datasets.CIFAR10, "test_list", [list(test)])
    meta = {**datasets.CIFAR10.meta, "md5": md5(folder / "batches.meta")}
    patch.setattr(datasets.CIFAR10, "meta", meta)


def svhn(root: Path, patch: Patch) -> None:
    """Matlab files of X [32, 32, 3, N] and y [N, 1], in which 10 is the digit zero."""
    root.mkdir(parents=True, exist_ok=True)
    sums = {}
    for split, count in (("train", 11), ("test", 6), ("extra", 7)):
        file = root / f"{split}_32x32.mat"
        labels = 1 + np.arange(count)[:, None] % 10
        savemat(file, {"X": pixels(count, 32, 32, 3, count), "y": labels.astype(np.uint8)})
        sums[split] = ["", file.name, md5(file)]
    patch.setattr(datasets.SVHN, "split_list", sums)


def flowers102(root: Path, patch: Patch) -> None:
    """JPEG files image_00001.jpg ... of several sizes; labels from 1 and split indices in Matlab files."""
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for i in range(1, 10):
        image = Image.fromarray(pixels(i, 40 + i, 60, 3))
        image.save(folder / "jpg" / f"image_{i:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 1, 2, 2, 3, 102, 102, 1, 2]])})
    savemat(folder / "setid.mat", {"trnid": [[9, 2, 6]], "valid": [[1, 3]], "tstid": [[4, 5, 7, 8]]})  # fmt: skip
    known = datasets.Flowers102._file_dict
    sums = {which: (known[which][0], md5(folder / known[which][0])) for which in ("label", "setid")}
    patch.setattr(datasets.Flowers102, "_file_dict", known | sums)


def celeba(root: Path, patch: Patch, count: int = 7) -> None:
    """JPEG files of 178 x 218 and five text files; splits 0, 1, 2 in turn."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, count + 1)]
    for i, name in enumerate(names):
        Image.fromarray(pixels(i, 218, 178, 3)).save(folder / "img_align_celeba" / name)
    texts = {
        "list_eval_partition.txt": "".join(f"{name} {i % 3}\n" for i, name in enumerate(names)),
        "identity_CelebA.txt": "".join(f"{name} {i}\n" for i, name in enumerate(names)),
    }
    for kind, columns in (("attr_celeba", 40), ("bbox_celeba", 4), ("landmarks_align_celeba", 10)):
        head = " ".join(f"column_{i}" for i in range(columns))
        values = np.random.default_rng(columns).integers(0, 2, (len(names), columns)) * 2 - 1
        rows = "".join(f"{n} {'  '.join(map(str, v))}\n" for n, v in zip(names, values, strict=True))  # fmt: skip
        texts[f"list_{kind}.txt"] = f"{len(names)}\n{head} \n{rows}"
    for name, text in texts.items():
        (folder / name).write_text(text)
    listed = [
        (key, md5(folder / name) if name in texts else sum_, name)
        for key, sum_, name in datasets.CelebA.file_list
    ]
    patch.setattr(datasets.CelebA, "file_list", listed)


FORGED: dict[str, Callable[[Path, Patch], None]] = {
    "MNIST": lambda root, _: mnist(root),
    "FashionMNIST": lambda root, _: mnist(root, "FashionMNIST"),
    "CIFAR10": cifar10,
    "SVHN": svhn,
    "Flowers102": flowers102,
    "CelebA": celeba,
}
