"""Which pictures does the page carry? As many times, seeds and cells as fit into a bound of bytes."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dashboards.directories import Picture
from dashboards.page.rows import shown as status_text
from dashboards.sweep import Sweep
from dashboards.text import counted
from trainer.report import Status

MOST_BYTES = 1_500_000
"""Of all pictures together, as the base64 of the page."""
_LADDER = (
    *((0, 9, False), (12, 7, False), (6, 7, False), (3, 5, False), (3, 5, True), (3, 3, True)),
    *((2, 3, True), (1, 3, True), (1, 1, True)),
)
"""(seeds, times, cut): so many seeds (0: all) are shown if at least so many times of training fit, and whether grids
are cut to a quarter. A few seeds over time say more than many at the end."""
_GAP = 96
"""The grey between the images of a grid (`trainer.evaluation.picture`)."""
_FEWEST = 9
"""Images that a cut grid has to have."""


@dataclass(frozen=True)
class Choice:
    """What the page carries."""

    cells: list[str]
    seeds: list[int]
    kimg: list[float]
    """Times, ascending; a trial that was not measured then shows its picture before."""
    cut: bool
    """Whether only the upper left quarter of every grid is shown."""


@dataclass(frozen=True)
class Shown:
    """What the template says of samples."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """A row for each cell, in it an image for each seed: the last one, as an address."""
    seeds: list[int] = field(default_factory=list)
    kimg: list[str] = field(default_factory=list)
    earlier: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Place in the table to (place in `kimg`, PNG as base64) of the pictures before the last."""
    left_out: str = ""
    """What is there and not carried, in a sentence."""


def shown(sweep: Sweep, most_bytes: int = MOST_BYTES) -> Shown:
    """The pictures that fit, last ones apart from earlier ones; empty without any."""
    if not sweep.samples:
        return Shown()
    scale = 1.0
    while True:
        choice = _choice(sweep, most_bytes, scale)
        found = _read(sweep, choice)
        total = sum(len(png) for pictures in found.values() for _, png in pictures)
        if total <= most_bytes or len(found) <= 1:
            break
        scale *= 1.02 * total / most_bytes
    status = sweep.trials.set_index(["cell", "seed"])["status"].to_dict()
    rows: list[dict[str, Any]] = []
    for cell in choice.cells:
        images = []
        for seed in choice.seeds:
            pictures = found.get((cell, seed), [])
            images.append(
                {"seed": seed, "place": f"{len(rows)}-{seed}", "uri": "", "at": 0}
                | {"why": status_text(status.get((cell, seed), Status.WAITING))}
                | (_last(pictures) if pictures else {})
            )
        rows.append({"cell": cell, "images": images})
    earlier = {
        image["place"]: found[row["cell"], image["seed"]][:-1]
        for row in rows
        for image in row["images"]
        if image["uri"]
    }
    return Shown(
        rows=rows,
        seeds=choice.seeds,
        kimg=[f"{at:.4g}" for at in choice.kimg],
        earlier={place: pictures for place, pictures in earlier.items() if pictures},
        left_out=_left_out(sweep, choice),
    )


def _last(pictures: Sequence[tuple[int, str]]) -> dict[str, Any]:
    at, png = pictures[-1]
    width, height = Image.open(io.BytesIO(base64.b64decode(png))).size
    return {"uri": f"data:image/png;base64,{png}", "at": at, "width": width, "height": height}


def _choice(sweep: Sweep, most_bytes: int, scale: float) -> Choice:
    """The first step of the ladder that fits, with as many times as then fit."""
    cells = [cell for cell in sweep.cells if any(of == cell for of, _ in sweep.samples)]
    seeds = sorted({seed for _, seed in sweep.samples})
    times = sorted({round(p.kimg, 6) for own in sweep.samples.values() for p in own})
    size = scale * _mean_size(sweep)
    quarter = False
    for most, least, cut in _LADDER:
        quarter = quarter or (cut and _can_cut(sweep))
        chosen = seeds[: most or None]
        one = size * (0.27 if quarter else 1.0)
        fit = int(most_bytes / (one * len(chosen) * len(cells)))
        if fit >= min(least, len(times)):
            return Choice(cells, chosen, _ends_and_between(times, fit), quarter)
    room = max(1, int(most_bytes / one))
    last = Choice(cells, seeds[:1], times[-1:], quarter)
    if sweep.baseline in cells:
        cells = [sweep.baseline, *(cell for cell in cells if cell != sweep.baseline)]
    kept = set(cells[:room])
    return replace(last, cells=[cell for cell in sweep.cells if cell in kept])


def _mean_size(sweep: Sweep) -> float:
    sizes = [p.path.stat().st_size for own in sweep.samples.values() for p in own]
    return max(1.0, float(np.mean(sizes)) * 4 / 3)


def _ends_and_between(times: Sequence[float], most: int) -> list[float]:
    """At most so many of ascending times, evenly; the last is among them, and the first of several."""
    if len(times) <= most:
        return list(times)
    if most == 1:
        return [times[-1]]
    return [times[at] for at in np.linspace(0, len(times) - 1, most).round().astype(int)]


def _read(sweep: Sweep, choice: Choice) -> dict[tuple[str, int], list[tuple[int, str]]]:
    """(cell, seed) to (place in the times, PNG as base64); a file that is no picture is left out."""
    found: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for trial in ((cell, seed) for cell in choice.cells for seed in choice.seeds):
        for place, path in _over_time(sweep, trial, choice):
            with contextlib.suppress(OSError):
                png = base64.b64encode(_png(path, cut=choice.cut)).decode()
                found.setdefault(trial, []).append((place, png))
    return found


def _over_time(sweep: Sweep, trial: tuple[str, int], choice: Choice) -> Iterator[tuple[int, Path]]:
    """At each time the newest picture there was; each once, and the last in any case."""
    own = sweep.samples.get(trial, ())
    before: Picture | None = None
    for place, at in enumerate(choice.kimg):
        is_last = place == len(choice.kimg) - 1
        there = [picture for picture in own if picture.kimg <= at + 1e-6 or is_last]
        if there and there[-1] != before:
            before = there[-1]
            yield place, before.path


def _png(path: Path, *, cut: bool) -> bytes:
    """The same pixels, in a palette where that is shorter; with `cut` those of the first quarter of the grid."""
    whole = path.read_bytes()
    picture: Image.Image = Image.open(io.BytesIO(whole))
    if not cut and picture.mode in ("L", "P"):
        return whole
    if cut:
        picture = _cut(picture)
    found = [] if cut else [whole]
    for one in (picture, _in_palette(picture)):
        if one is not None:
            encoded = io.BytesIO()
            one.save(encoded, "PNG")
            found.append(encoded.getvalue())
    return min(found, key=len)


def _in_palette(picture: Image.Image) -> Image.Image | None:
    """The picture by an exact palette; None where it has more colours, or is no RGB."""
    if picture.mode != "RGB" or picture.getcolors(256) is None:
        return None
    pixels = np.asarray(picture)
    colours, places = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    made = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8))
    made.putpalette(colours.flatten().tolist())
    return made


def _can_cut(sweep: Sweep) -> bool:
    """Whether pictures are grids of so many images that a quarter of them shows something: asked of one of a cell."""
    for own in {cell: own for (cell, _), own in sweep.samples.items()}.values():
        try:
            tiles = _tiles(Image.open(own[-1].path))
        except OSError:
            continue
        if tiles is None or -(-tiles[0] // 2) * -(-tiles[1] // 2) < _FEWEST:
            return False
    return True


def _cut(picture: Image.Image) -> Image.Image:
    """The upper left quarter of a grid, by whole images."""
    found = _tiles(picture)
    if found is None:
        return picture
    columns, rows = found
    width = -(-columns // 2) * (picture.width + 1) // columns - 1
    height = -(-rows // 2) * (picture.height + 1) // rows - 1
    return picture.crop((0, 0, width, height))


def _tiles(picture: Image.Image) -> tuple[int, int] | None:
    """How many images stand beside and below each other in a grid; None where it is none."""
    pixels = np.asarray(picture.convert("RGB"))
    grey = (pixels == _GAP).all(axis=2)
    columns, rows = _pieces(grey.all(axis=0)), _pieces(grey.all(axis=1))
    return (columns, rows) if columns > 1 and rows > 1 else None


def _pieces(is_gap: NDArray[np.bool_]) -> int:
    """Into how many equal pieces lines of one pixel part a side; 1 where they do not."""
    length = len(is_gap) + 1
    first = int(is_gap.argmax()) + 1
    is_even = is_gap.any() and length % first == 0 and is_gap[first - 1 :: first].all()
    return length // first if is_even else 1


def _left_out(sweep: Sweep, choice: Choice) -> str:
    times = {round(p.kimg, 6) for own in sweep.samples.values() for p in own}
    seeds = {seed for _, seed in sweep.samples}
    cells = {cell for cell, _ in sweep.samples}
    parts = [
        f"{len(kept)} of {counted(every, what)}"
        for kept, every, what in (
            (choice.cells, len(cells), "cell"),
            (choice.seeds, len(seeds), "seed"),
            (choice.kimg, len(times), "time"),
        )
        if len(kept) < every
    ]
    parts += ["the upper left quarter of every grid"] if choice.cut else []
    return f"To stay small, the page carries {', '.join(parts)}." if parts else ""
