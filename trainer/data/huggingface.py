"""Data sets of the Hugging Face hub, or what its library `datasets` saved or reads on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from trainer.data.base import DataSpec
from trainer.data.found import usable
from trainer.data.framed import Composed, Place
from trainer.data.huggingface_rows import (
    MOST_ENTRIES,
    TableRows,
    hub_tables,
    refuse_unfit,
    saved_tables,
    table_of,
)
from trainer.data.listing import printable
from trainer.data.rows import Once, RowPictures, read_rows, state_of
from trainer.errors import DataError

Column = Annotated[str, Field(min_length=1, max_length=200)]


class HuggingFaceSet(Composed):
    """A table with a column of images: from the hub at a commit, from `save_to_disk`, parquet or image files."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"path", "revision", "config", "split", "image_column", "label_column", "damaged"}
    )
    without_test: ClassVar[str] = (
        "data.split: the set has no split test beside what is trained on: name one that has"
    )

    kind: Literal["huggingface"] = "huggingface"
    path: Place
    """A folder or .parquet file, from the data root (the working directory) on; with a revision: a name at the hub."""
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    """Commit of the hub's data set, 40 hex digits, as its page shows: names and branches move. null: a path."""
    config: Column | None = None
    """Which configuration of the hub's data set, where it has several."""
    split: Column = "train"
    """Which of its splits."""
    image_column: Column | None = None
    """Column of images; null: the one whose type says so."""
    label_column: Column | bool = True
    """Column of classes: texts or whole numbers; true: that of type ClassLabel or called label, if any; false: none."""
    damaged: Literal["refuse", "skip"] = "refuse"
    """What becomes of rows without an image or label, or with one that cannot be read: refused, or left out."""

    def held_out(self, root: Path, cache: Path | None = None) -> DataSpec | None:
        """The split `test`, if there is one beside this."""
        if self.split == "test" or "test" not in self._tables(self._place(root), cache):
            return None
        return self.model_copy(update={"split": "test"})

    def _pictures(self, root: Path, cache: Path | None) -> RowPictures:
        place = self._place(root)
        state = (
            [str(self.config), self.revision] if self.revision else state_of([place], MOST_ENTRIES)
        )

        def table() -> TableRows:
            of_split = table_of(self._tables(place, cache), self.split)
            return TableRows(of_split, self.image_column, self.label_column, self.frame)

        rows = Once(table)
        asked = [
            str(each) for each in (self.path, self.split, self.image_column, self.label_column)
        ]
        remedy = "repair it, or set data.damaged: skip (and data.label_column: false if the labels are missing)"
        found = read_rows(rows, ["huggingface", *asked, *state], cache)
        where = f"data.path: {printable(self.path)}, split {self.split}"
        usable_rows = usable(found, where, remedy, skip=self.damaged == "skip")
        called = f"huggingface {printable(self.path)}, split {self.split}"
        return RowPictures(usable_rows, rows, called)

    def _tables(self, place: Path, cache: Path | None) -> Mapping[str, Any]:
        if self.revision is not None:
            return hub_tables(self.path, self.config, self.revision)
        return saved_tables(place, self.split, cache)

    def _place(self, root: Path) -> Path:
        try:
            place = (root / Path(self.path).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"data.path: {self.path[:60]!r} cannot be a path ({error})") from None
        if self.revision is None:
            refuse_unfit(place)
        return place


TableData = HuggingFaceSet
"""The members of this file: a new set that lies in a table is one class above and one name here."""
