"""Where do samples go? A folder that can be made again: the same command writes the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.errors import UserError
from trainer.evaluation.picture import png as scatter
from trainer.exchange.pictures import npz, picture, png, sheet, to_bytes
from trainer.files import write_whole
from trainer.record import TRIAL

STORY = "samples.json"
"""How the samples were made."""
SHEET, ARRAYS = "grid.png", "samples.npz"
_OURS = re.compile(r"(guidance-[0-9.e+-]+/)?([0-9]{6}\.png|samples\.npz)|[a-z]+\.png")
_LEFT = re.compile(
    r"(guidance-[0-9.e+-]+/)?([0-9]{6}\.png|samples\.npz|\.[0-9a-z]+\.(png|npz)\.[0-9]+\.partial)|(grid|strip)\.png"
)
"""What a writing that was cut short may have left."""
_KEY = re.compile(r"[0-9a-f]{20}")
"""Of a trial, found wherever results live; any other name is the name of a folder only."""
_BEGUN = "begun"
"""In the story until it is finished."""
_SHOWN = 64
"""Most images of one sheet that nobody gave a number of columns."""


class SampleFolder:
    """A folder of samples that is about to be written; what an earlier writing left there is replaced."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where the folder holds files of somebody else."""
        self.folder = folder
        self.files: list[str] = []
        self._earlier = self._written_before()

    def _written_before(self) -> list[str]:
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file: choose another --out")
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return []
        try:
            story = json.loads((self.folder / STORY).read_text(encoding="utf-8"))
            if _BEGUN in story:  # cut short: nobody knows how far it came
                there = (
                    each.relative_to(self.folder).as_posix() for each in self.folder.rglob("*")
                )
                return [name for name in there if _LEFT.fullmatch(name)]
            return [name for name in story["files"] if _OURS.fullmatch(name)]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.folder} holds other files than samples: choose another --out, or empty it"
            ) from None

    def write(self, name: str, content: bytes) -> None:
        """One file."""
        if not self.files:  # whatever happens from here on, the same command knows its own
            write_whole(self.folder / STORY, json.dumps({_BEGUN: True, "files": []}) + "\n")
        write_whole(self.folder / name, content)
        self.files.append(name)

    def write_set(self, x: Tensor, labels: Tensor | None, below: str = "") -> None:
        """Every sample [B, ...] as a PNG and all in an npz; points, which are no images, only there."""
        if x.ndim != 4:
            self.write(f"{below}{ARRAYS}", npz(x.float().numpy(), labels))
            return
        pixels = to_bytes(x)
        for i, image in enumerate(pixels):
            self.write(f"{below}{i:06d}.png", png(picture(image)))
        self.write(f"{below}{ARRAYS}", npz(pixels, labels))

    def write_sheet(self, x: Tensor, columns: int | None = None, name: str = SHEET) -> None:
        """Images [B, C, H, W] in rows of `columns`, or points as a scatter."""
        if x.ndim != 4:
            self.write(name, scatter(x))
            return
        shown = x if columns else x[:_SHOWN]
        self.write(name, png(sheet(to_bytes(shown), columns)))

    def finish(self, story: Mapping[str, Any]) -> None:
        """Say how they were made, and remove what an earlier writing left and this one did not replace."""
        for name in set(self._earlier) - set(self.files):
            (self.folder / name).unlink(missing_ok=True)
        content = json.dumps({**story, "files": self.files}, indent=1)
        write_whole(self.folder / STORY, content + "\n")


IMAGE_FILES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


def set_of(folder: Path) -> list[Path]:
    """The image files of one set of samples, sorted; in a folder that `SampleFolder` wrote only the samples.

    Hidden files are left out. Raises UserError for a folder with a set for each of several guidance scales, of points,
    or whose writing was cut short.
    """
    sets = sorted(path for path in folder.glob("guidance-*") if path.is_dir())
    if sets and (folder / STORY).is_file():
        raise UserError(f"{folder} holds {len(sets)} sets of samples: name one, such as {sets[0]}")
    story = _read(folder)
    if _BEGUN in story:
        raise UserError(f"{folder} was not finished: run its `sample` again")
    if story_of(folder) is not None:
        numbered = sorted(folder.glob("[0-9]" * 6 + ".png"))
        if not numbered and (folder / ARRAYS).is_file():
            raise UserError(f"{folder} holds points, no images: name {folder / ARRAYS}")
        return numbered
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_FILES and not path.name.startswith(".")
    )


def story_of(path: Path) -> dict[str, Any] | None:
    """How samples were made, where `SampleFolder` wrote them: a folder, a set in it, or its npz; None elsewhere.

    `trial` is the directory of the model, or its key where that directory is gone.
    """
    folder = path if path.is_dir() else path.parent
    if folder.name.startswith("guidance-"):
        folder = folder.parent
    story = _read(folder)
    if "trial" not in story:
        return None
    directory = story.get("directory")
    is_key = _KEY.fullmatch(str(story["trial"])) is not None
    if isinstance(directory, str) and (not is_key or (Path(directory) / TRIAL).is_file()):
        return story | {"trial": directory}
    return story


def _read(folder: Path) -> dict[str, Any]:
    """What is written beside samples; nothing where nobody wrote it."""
    try:
        story = json.loads((folder / STORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return story if isinstance(story, dict) else {}
