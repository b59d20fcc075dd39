"""What becomes of a wish for samples? Checked, drawn, written into a folder, and told in lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer.asked import Ask
from trainer.errors import UserError
from trainer.exchange.enlarging import Small, beside, small_images
from trainer.exchange.folder import SampleFolder
from trainer.exchange.pictures import background_of, read_image
from trainer.exchange.walks import denoised, interpolated, inverted, strip
from trainer.trained import Trained

if TYPE_CHECKING:
    from trainer.record import Record
    from trainer.trial import TrialSpec

STRIPS, FRAMES = 8, 10
"""Samples of a strip, and pictures of each."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What the command was asked for."""

    n: int | None = None
    """None: 16; of `enlarge` one of each image."""
    noise_seed: int | None = None
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """What every sample has; none: as the data's examples."""
    per_class: int | None = None
    guidance: tuple[float, ...] = ()
    """Scales; none: as in the protocol."""
    strip: bool = False
    interpolate: int | None = None
    invert: Path | None = None
    denoise: Path | None = None
    begin: str | None = None
    """Where `denoise` begins, as written."""
    enlarge: tuple[Path, ...] = ()
    """Small images, folders of them, or arrays of samples."""
    together: int | None = None
    average: str | None = None
    """Another average of the weights than the evaluated one."""

    def check(self) -> None:
        """UserError where two wishes contradict each other."""
        ways = {
            "--interpolate": self.interpolate,
            "--invert": self.invert,
            "--denoise": self.denoise,
            "--enlarge": self.enlarge or None,
        }
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} are different things: choose one")
        if given and len(self.guidance) > 1:
            raise UserError(f"{given[0]} takes one --guidance, not {len(self.guidance)}")
        folders = [f"{scale:g}" for scale in self.guidance]
        if twice := next((name for name in folders if folders.count(name) > 1), None):
            raise UserError(
                f"--guidance {twice} is there twice, and both would go into one folder: name each scale once"
            )
        if given and self.strip:
            raise UserError(
                f"--strip draws the way of plain samples, not of {given[0]}: choose one"
            )
        if self.per_class and self.labels:
            raise UserError("--per-class draws every class, --label says which: choose one")
        if (self.begin is None) != (self.denoise is None):
            raise UserError(
                "--denoise IMAGE and --from T belong together: from where is the image denoised?"
            )


def draw(
    record: Record,
    wanted: Wanted,
    change: Callable[[TrialSpec], TrialSpec],
    out: Path,
    device: str = "auto",
    progress: Progress = lambda _done, _total: None,
) -> Iterator[str]:
    """Write what is wanted to `out`; lines for a person. Everything that can be wrong is said before any work."""
    wanted.check()
    trained = Trained.load(record, device, wanted.average)
    trained.refuse_broken()
    trained = replace(trained, trial=change(trained.trial))
    if len(trained.codec.shape) != 3 and (wanted.strip or wanted.interpolate):
        raise UserError("--strip and --interpolate: draw rows of images, this model makes points")
    small = small_images(wanted.enlarge, trained) if wanted.enlarge else None
    asks, n = _asks(trained, wanted, 16 if small is None else len(small.x))
    folder = SampleFolder(out)
    story = {
        "trial": record.directory.resolve().name,
        "directory": str(record.directory.resolve()),
        "weights": trained.digest(),
        "images_seen": trained.images,
        "generation": asks[0].generation.model_dump(mode="json"),
        "noise_seed": asks[0].seed,
    }
    if wanted.average is not None:
        story["average"] = wanted.average
    if (tags := asks[0].tags) is not None:
        story["tags"] = [trained.codec.tags[i] if trained.codec.tags else i for i in tags]
    if wanted.interpolate is not None:
        story |= _interpolate(trained, asks[0], n, wanted.interpolate, folder)
    elif wanted.invert is not None:
        story |= _invert(trained, asks[0], wanted.invert, folder)
        yield _error(story, trained)
    elif wanted.denoise is not None:
        story |= _denoise(trained, asks[0], n, wanted, folder)
    elif small is not None:
        story |= _enlarge(trained, asks[0], n, small, folder, progress)
    else:
        story |= _plain(trained, asks, n, wanted, folder, progress)
    folder.finish(story)
    yield f"{out}: {_contents(folder)}"


def _contents(folder: SampleFolder) -> str:
    pictures = sum(name[-10:-4].isdigit() for name in folder.files)
    others = sorted(
        {name.rpartition("/")[2] for name in folder.files if not name[-10:-4].isdigit()}
    )
    counted = [f"{pictures} PNG"] if pictures else []
    return ", ".join([*counted, *others])


def _asks(trained: Trained, wanted: Wanted, usual: int) -> tuple[list[Ask], int]:
    """One for every guidance scale, and how many samples each makes: `usual` if nobody said."""
    labels: list[int | str] = list(wanted.labels)
    n = wanted.n or usual
    if wanted.per_class is not None:
        classes = trained.trial.model.classes
        if classes is None:
            raise UserError("--per-class: this model was trained without labels; use -n")
        known = min(classes, trained.codec.classes or classes)
        labels = [label for label in range(known) for _ in range(wanted.per_class)]
        n = len(labels)
    common: dict[str, Any] = {
        "labels": labels or None,
        "tags": wanted.tags or None,
        "seed": wanted.noise_seed,
        "together": wanted.together,
    }
    full = trained.trial.evaluation.full
    scales: tuple[float | None, ...] = wanted.guidance or (None,)
    return [trained.ask(full, guidance=scale, **common) for scale in scales], n


def _plain(
    trained: Trained,
    asks: list[Ask],
    n: int,
    wanted: Wanted,
    folder: SampleFolder,
    progress: Progress,
) -> dict[str, Any]:
    """Samples: one set, or one for each guidance scale."""
    done = 0
    sets: list[Tensor] = []

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done, n * len(asks))

    labels = trained.labels(asks[0], n)
    for ask, scale in zip(asks, wanted.guidance or (None,), strict=True):
        sets.append(trained.drawn(ask, range(n), more))
        below = "" if len(asks) == 1 else f"guidance-{scale:g}/"
        folder.write_set(sets[-1], labels, below)
    shown = torch.cat(sets) if len(sets) == 1 else torch.cat([each[:_WIDEST] for each in sets])
    columns = wanted.per_class if len(asks) == 1 else min(n, _WIDEST)
    folder.write_sheet(shown, columns)
    if wanted.strip:
        rows = strip(trained, asks[0], min(n, STRIPS), FRAMES)
        folder.write_sheet(rows.flatten(0, 2), FRAMES, "strip.png")
    told = {"labels": None if labels is None else labels.tolist()}
    return told | ({"guidance": list(wanted.guidance)} if wanted.guidance else {})


_WIDEST = 16
"""Columns of a grid whose rows are guidance scales."""


def _interpolate(
    trained: Trained, ask: Ask, n: int, steps: int, folder: SampleFolder
) -> dict[str, Any]:
    pairs = max(1, n // 2)
    rows = interpolated(trained, ask, pairs, steps)
    labels = trained.labels(ask, 2 * pairs)
    told = None if labels is None else labels[::2].repeat_interleave(steps)
    folder.write_set(rows.flatten(0, 1), told)
    folder.write_sheet(rows.flatten(0, 1), steps)
    return {"interpolated": {"pairs": pairs, "steps": steps}}


def _invert(trained: Trained, ask: Ask, image: Path, folder: SampleFolder) -> dict[str, Any]:
    x0 = _image(image, trained)
    found = inverted(trained, ask, x0)
    shown = torch.cat([x0, (found.noise / 3.0).clamp(-1.0, 1.0), found.again])
    folder.write_set(found.again, None)
    folder.write_sheet(shown, 3)
    return {"inverted": {"image": str(image), "rms": found.rms, "largest": found.largest}}


def _image(file: Path, trained: Trained) -> Tensor:
    """x0 [1, C, H, W] of a file, opened as the trial's data is."""
    background = background_of(trained.trial.data)
    return read_image(file, trained.codec, background=background)


def _error(story: dict[str, Any], trained: Trained) -> str:
    error, steps = story["inverted"], trained.trial.evaluation.full.steps
    return (
        f"to noise and back in {steps} steps each way: root mean square error {error['rms']:.4g} "
        f"({error['rms'] * 127.5:.2g} of 255 grey levels), largest {error['largest']:.4g}"
    )


def _denoise(
    trained: Trained, ask: Ask, n: int, wanted: Wanted, folder: SampleFolder
) -> dict[str, Any]:
    assert wanted.denoise is not None
    assert wanted.begin is not None
    x0 = _image(wanted.denoise, trained)
    level = level_of(wanted.begin, trained)
    noisy, clean = denoised(trained, ask, x0, n, level)
    folder.write_set(clean, trained.labels(ask, n))
    rows = torch.stack([x0.expand_as(clean), noisy, clean], 1)
    folder.write_sheet(rows.flatten(0, 1), 3)
    return {"denoised": {"image": str(wanted.denoise), "from": wanted.begin, "log_snr": level}}


def _enlarge(
    trained: Trained, ask: Ask, n: int, small: Small, folder: SampleFolder, progress: Progress
) -> dict[str, Any]:
    """Sample i for image i, in a circle."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done, n)

    x = trained.enlarging(small.x).drawn(ask, range(n), more)
    folder.write_set(x, trained.labels(ask, n))
    folder.write_sheet(beside(small.x, x).flatten(0, 1), 3)
    return {"enlarged": {"images": list(small.names)}}


def level_of(text: str, trained: Trained) -> float:
    """log-SNR of `0.5` (time of the model's schedule), `log_snr=-2` or `edm_sigma=1.5`; UserError otherwise."""
    from trainer.diffusion.log_snr import from_edm_sigma

    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if name == "" and 0.0 < value <= 1.0:
        time = torch.tensor(value, dtype=torch.float64, device=trained.device)
        return float(trained.diffusion.schedule.log_snr(time))
    if name == "log_snr" and abs(value) <= 30.0:
        return value
    if name == "edm_sigma" and 1e-6 < value < 1e6:
        return float(from_edm_sigma(torch.tensor(value, dtype=torch.float64)))
    raise UserError(
        f"--from {text}: write a time above 0 up to 1, such as 0.5, or log_snr=-2, or edm_sigma=1.5"
    )
