"""What is said of a set of pictures? One line of counts, and a line for each thing that a person should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.data.labelling import many
from trainer.data.listing import printable
from trainer.data.picture import ALPHA, CUT, DEEP, FRAMES, PROFILE, ROTATED, Frame
from trainer.lazily import torch

if TYPE_CHECKING:
    from trainer.data.pictures import Pictures
    from trainer.data.scan import Facts

_SHOWN_CLASSES = 8
_FULL = 65535
_DARK = 4
"""Grey of 16 bits whose largest value is less than such a part of the range was meant otherwise: 12 bits, or 8."""


@dataclass(frozen=True)
class Looks:
    """What the pictures of a set are like."""

    smallest: tuple[int, int]
    """Width and height of the picture with the fewest pixels."""
    largest: tuple[int, int]
    least: tuple[int, int]
    """The least width of any picture, and the least height."""
    modes: dict[str, int]
    """Pillow's name for how they are stored, to the number of pictures; the most frequent first."""
    notes: dict[str, int]
    """What opening took (`trainer.data.picture`) to the number of pictures."""
    peak: int
    """Largest value of all 16-bit grey."""

    @classmethod
    def of(cls, facts: Sequence[Facts]) -> Looks:
        """From what is known of each picture that can be used."""
        sizes = sorted({(f.width, f.height) for f in facts}, key=lambda size: size[0] * size[1])
        least = (min((w for w, _ in sizes), default=0), min((h for _, h in sizes), default=0))
        return cls(
            smallest=sizes[0] if sizes else (0, 0),
            largest=sizes[-1] if sizes else (0, 0),
            least=least,
            modes=dict(Counter(f.mode for f in facts).most_common()),
            notes=dict(Counter(note for f in facts for note in f.notes)),
            peak=max((f.peak for f in facts), default=0),
        )


def counted(pictures: Pictures) -> str:
    """`13 images, 2 classes (cat 9, dog 4)`, and how many tags."""
    line = many(len(pictures), "image")
    if pictures.labels is not None:
        names = pictures.label_names
        assert names is not None, "labels have names"
        counts = torch.bincount(pictures.labels, minlength=len(names)).tolist()
        line += f", {many(len(counts), 'class')} ({_classes(names, counts)})"
    if pictures.tag_names is not None:
        line += f", {many(len(pictures.tag_names), 'tag')}"
    return line


def stored(smallest: tuple[int, int], largest: tuple[int, int], how: str) -> str:
    """`sizes 28 x 28 (width x height); stored as 60,000 L`."""
    small, large = (f"{width} x {height}" for width, height in (smallest, largest))
    return f"sizes {small if small == large else f'{small} to {large}'} (width x height); stored as {how}"


def stored_alike(looks: Looks) -> str:
    """The same, in Pillow's modes."""
    modes = ", ".join(f"{count:,} {mode}" for mode, count in looks.modes.items())
    return stored(looks.smallest, looks.largest, modes)


def noted(looks: Looks, frame: Frame) -> Iterable[str]:
    """What opening the pictures took, in words, a line each."""
    behind = "kept" if frame.alpha else f"put on {frame.background} (data.background)"
    words = {
        ROTATED: "turned upright, as EXIF says",
        ALPHA: f"with transparency, {behind}",
        DEEP: f"of 16-bit grey, scaled from 0..{_FULL} to 8 bits; {_brightness(looks.peak)}",
        PROFILE: "with a colour profile, in whose colours they are shown (as sRGB)",
        FRAMES: "animated or with several pages: the first is used",
        CUT: "of PNG that ends early, with all pixels there: copied in part?",
    }
    for note, text in words.items():
        if count := looks.notes.get(note):
            yield f"{many(count, 'image')} {text}"


def _brightness(peak: int) -> str:
    says = f"the largest value in them is {peak:,}"
    if peak * _DARK > _FULL:
        return says
    return f"{says}, so they are dark: unless that is meant, multiply their values by {_FULL // max(peak, 1)}"


def _classes(names: Sequence[str], counts: Sequence[int]) -> str:
    shown = [f"{printable(n)} {c:,}" for n, c in zip(names, counts, strict=True)][:_SHOWN_CLASSES]
    rest = counts[_SHOWN_CLASSES:]
    if not rest:
        return ", ".join(shown)
    fewest, most = min(rest), max(rest)
    span = f"{fewest:,} each" if fewest == most else f"{fewest:,} to {most:,}"
    return f"{', '.join(shown)} and {len(rest):,} more of {span}"
