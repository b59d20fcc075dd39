"""What does a folder of pictures hold? Its files in order, their classes, and the line that says what was found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from trainer.data.archive import archive_listing
from trainer.data.labelling import Labelling, labelled, many, some
from trainer.data.listing import Listing, folder_listing, located, printable
from trainer.data.picture import Frame, Unreadable
from trainer.data.pictures import Pictures
from trainer.data.said import Looks, counted, noted, stored_alike
from trainer.data.scan import Facts, scan
from trainer.errors import DataError
from trainer.lazily import torch

CHANGED = "it was changed while the data was read: start again when it is complete"
_LONG = 4.0
"""Pictures that are longer than so many times their frame are worth a remark."""


class FolderPictures(Pictures):
    """The pictures of a folder; equal content in equal order is equal, wherever it lies."""

    def __init__(
        self, listed: Listing, names: Sequence[str], facts: Sequence[Facts], damaged: Sequence[tuple[str, str]],
        labels: Labelling, frame: Frame,
    ) -> None:  # fmt: skip
        """`facts` of the files `names` of a listing; `damaged` are the names that were skipped, with the reasons."""
        self.listed, self.names, self.facts, self.damaged = listed, names, facts, damaged
        classes, self.alone, self.of_classes = labelled(listed, names, labels)
        self.content = hashlib.sha256("".join(f.sha256 for f in facts).encode()).hexdigest()
        self._frame = frame
        if classes is not None:
            numbers = {name: i for i, name in enumerate(sorted(set(classes)))}
            self.labels = torch.tensor([numbers[name] for name in classes])
            self.label_names = tuple(numbers)

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, number: int) -> Image.Image:
        """Read again, and checked to be what was read before."""
        content = self.listed.content(self.names[number])
        picture = self._frame.opened(content)
        if picture.name(content) != self.facts[number].sha256:
            raise Unreadable(CHANGED)
        return picture.image

    def name(self, number: int) -> str:
        """With the folder."""
        return printable(self.listed.folder / self.names[number])

    def line(self) -> str:
        """Images, classes and what was left out."""
        line = counted(self)
        left = [
            f"{count:,} {printable(what)}" for what, count in sorted(self.listed.left_out.items())
        ]
        return f"{line}; left out: {', '.join(left)}" if left else line

    def remarks(self, frame: Frame) -> tuple[str, ...]:
        """Sizes and modes, what opening took, what stands out."""
        return tuple(_remarks(self, frame))


def read_folder(
    root: Path,
    path: str,
    cache: Path | None,
    *,
    labels: Labelling,
    skip_damaged: bool,
    frame: Frame,
) -> FolderPictures:
    """Every file is read, unless `cache` knows it. Raises DataError where the folder cannot be trained on as it is."""
    place = located(root, path)
    listed = folder_listing(place) if place.is_dir() else archive_listing(place)
    every = scan(listed, cache)
    damaged = listed.lost + [
        (entry.name, fact.damage)
        for entry, fact in zip(listed.entries, every, strict=True)
        if fact.damage is not None
    ]
    if damaged and not skip_damaged:
        total = len(listed.entries) + len(listed.lost)
        raise DataError(
            f"data.path: {len(damaged):,} of {total:,} files in {printable(listed.folder)} cannot be used: "
            f"{_reasons(damaged)}: repair or remove {'it' if len(damaged) == 1 else 'them'}, or set data.damaged: skip"
        )
    usable = [
        (entry.name, fact)
        for entry, fact in zip(listed.entries, every, strict=True)
        if fact.damage is None
    ]
    if not usable:
        raise DataError(f"data.path: {_nothing(listed, damaged)}")
    names = [name for name, _ in usable]
    facts = [fact for _, fact in usable]
    return FolderPictures(listed, names, facts, damaged, labels, frame)


def _nothing(listed: Listing, damaged: Sequence[tuple[str, str]]) -> str:
    """Why there is no picture."""
    there = ", ".join(f"{n} {printable(what)}" for what, n in sorted(listed.left_out.items()))
    if damaged:
        there = f"{len(damaged)} damaged, {_reasons(damaged)}" + (f", {there}" if there else "")
    return (
        f"no image files (.png, .jpg, .webp, .tif, ...) under {printable(listed.folder)}"
        f"{f' (there is: {there})' if there else ''}: write the path of a folder of images"
    )


def _remarks(pictures: FolderPictures, frame: Frame) -> Iterable[str]:
    facts = pictures.facts
    looks = Looks.of(facts)
    yield stored_alike(looks)
    if pictures.alone is not None:
        yield f"all images are of one class ({printable(pictures.alone)}), so there are no labels"
    yield from pictures.of_classes
    if pictures.damaged:
        yield f"skipped {many(len(pictures.damaged), 'damaged file')}: {_reasons(pictures.damaged)}"
    yield from noted(looks, frame)
    yield from _shape_remarks(facts, frame)
    if copies := len(facts) - len({f.sha256 for f in facts}):
        yield f"{copies:,} images are exact copies of others" if copies > 1 else _ONE_COPY


_ONE_COPY = "1 image is an exact copy of another"


def _shape_remarks(facts: Sequence[Facts], frame: Frame) -> Iterable[str]:
    small = sum(f.width < frame.width or f.height < frame.height for f in facts)
    if small:
        yield f"{many(small, 'image')} smaller than {frame.width} x {frame.height}: enlarged"
    ratios = [f.width * frame.height / (f.height * frame.width) for f in facts]
    if long := sum(max(ratio, 1.0 / ratio) > _LONG for ratio in ratios):
        yield f"{many(long, 'image')} so long that the centre crop keeps less than a quarter"


def _reasons(damaged: Sequence[tuple[str, str]]) -> str:
    shown = [f"{printable(name)} ({reason})" for name, reason in damaged[:8]]
    return some(shown, len(damaged))
