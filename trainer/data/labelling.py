"""Which class is a picture of? That of its folder, of its name's prefix, or of a list beside the pictures."""

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

from trainer.data.listing import LABELS_FILE, Listing, printable
from trainer.data.picture import Unreadable
from trainer.errors import DataError

Labelling = Literal["folders", "prefix", "json", "none"]
_SHOWN = 3


class Classes(NamedTuple):
    """What the files say of their classes."""

    of: list[str] | None = None
    """The class of each file; None: there are no labels."""
    alone: str | None = None
    """The class where all have the same, which is no label."""
    remarks: tuple[str, ...] = ()


def labelled(listed: Listing, names: Sequence[str], labels: Labelling) -> Classes:
    """The classes of `names`, in their order. Raises DataError where the files do not fit the way of labelling."""
    remarks: tuple[str, ...] = ()
    if labels == "none":
        return Classes()
    if labels == "json":
        classes, remarks = _listed(listed, names)
    elif labels == "prefix":
        classes = _prefixes(names)
    else:
        classes = _folders(listed, names)
        remarks = _empty(listed, names)
    if classes is None or len(set(classes)) == 1:
        return Classes(None, classes[0] if classes else None, remarks)
    return Classes(classes, None, remarks)


def _folders(listed: Listing, names: Sequence[str]) -> list[str] | None:
    """The first folder level is the class, what is deeper does not split it."""
    beside = [name for name in names if "/" not in name]
    if len(beside) == len(names):
        return None
    if listed.has_labels_file:
        raise DataError(
            f"data.labels: {printable(listed.folder)} holds a {LABELS_FILE}, whose folders are no classes: set "
            "data.labels: json to take the classes from it, or none"
        )
    if beside:
        raise DataError(
            f"data.path: {many(len(beside), 'image')} beside the class folders ({some(beside, len(beside))}): put "
            f"{'it' if len(beside) == 1 else 'them'} into a class folder, or set data.labels: none to train on all "
            "images without classes"
        )
    return [name.partition("/")[0] for name in names]


def _empty(listed: Listing, names: Sequence[str]) -> tuple[str, ...]:
    """Folders that somebody may take for classes."""
    empty = sorted(listed.folders - {name.partition("/")[0] for name in names if "/" in name})
    if not empty:
        return ()
    one = len(empty) == 1
    says = f"{'holds' if one else 'hold'} no picture that can be used, and {'is no class' if one else 'are no classes'}"
    return (f"{many(len(empty), 'folder')} {says}: {some(empty, len(empty))}",)


def _prefixes(names: Sequence[str]) -> list[str]:
    """`dog_0001.png` is a dog, in whatever folder."""
    files = [name.rpartition("/")[2] for name in names]
    if bare := [file for file in files if "_" not in file]:
        raise DataError(
            f"data.labels: prefix reads classes from names like dog_1.png, and {len(bare):,} of {len(files):,} images "
            f"have no underscore ({some(bare, len(bare))}): rename them, or set data.labels: folders or none"
        )
    if nameless := [file for file in files if file.startswith("_")]:
        raise DataError(
            f"data.labels: prefix reads classes from names like dog_1.png, and {len(nameless):,} of {len(files):,} "
            f"images have nothing before the underscore ({some(nameless, len(nameless))}): rename them, or set "
            "data.labels: folders or none"
        )
    return [file.partition("_")[0] for file in files]


def _listed(listed: Listing, names: Sequence[str]) -> tuple[list[str] | None, tuple[str, ...]]:
    """The classes, and a remark if there are files that are not here.

    `{"labels": [["00000/img00000000.png", 6], ...]}`, as EDM and StyleGAN write it; null: no labels.

    Numbers are written with leading zeros, so that text order is their order.
    """
    way_out = "set data.labels: folders, prefix or none"
    if not listed.has_labels_file:
        raise DataError(
            f"data.labels: json needs a {LABELS_FILE} at the top of {printable(listed.folder)}: {way_out}"
        )
    try:
        pairs = json.loads(listed.content(LABELS_FILE))["labels"]
        if pairs is None:
            return None, ()
        known = dict(pairs)
    except (Unreadable, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"data.labels: {LABELS_FILE} of {printable(listed.folder)} holds no list of labels ({error}): {way_out}"
        ) from None
    if lacking := [name for name in names if name not in known]:
        raise DataError(
            f"data.labels: {LABELS_FILE} says nothing of {many(len(lacking), 'image')} "
            f"({some(lacking, len(lacking))}): {way_out}"
        )
    values = [known[name] for name in names]
    wrong = [value for value in values if type(value) is not int or value < 0]
    if wrong:
        raise DataError(
            f"data.labels: {LABELS_FILE} has the label {json.dumps(wrong[0])[:40]}, labels are whole numbers from 0: "
            f"{way_out}"
        )
    digits = len(str(max(values)))
    there = {entry.name for entry in listed.entries} | {name for name, _ in listed.lost}
    absent = [str(name) for name in known if name not in there]
    remarks: tuple[str, ...] = ()
    if absent:
        whole = f"{many(len(absent), 'image')} of {len(known):,} in {LABELS_FILE}"
        remarks = (f"{whole} not here: {some(absent, len(absent))}: is everything unpacked?",)
    return [f"{value:0{digits}d}" for value in values], remarks


def some(names: Sequence[str], total: int) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown + (f" and {total - _SHOWN:,} more" if total > _SHOWN else "")


def many(count: int, what: str) -> str:
    """`1 image`, `2 classes`."""
    return f"{count:,} {what}{'' if count == 1 else 'es' if what.endswith('s') else 's'}"
