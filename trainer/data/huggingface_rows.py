"""What lies in a data set of the Hugging Face hub, or in a folder or file that its library reads?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.data.columns import image_column, label_column, numbered
from trainer.data.listing import printable, refuse_systems
from trainer.data.picture import EXTENSIONS, Frame, Opened, Unreadable
from trainer.data.rows import Rows, too_full
from trainer.errors import DataError, EnvironmentProblem, listing

MOST_ENTRIES = 5_000_000
"""Files and folders that are looked at below a path."""
_MOST_OTHERS = 20_000
"""Other files in a folder: the library looks at each of them, too."""
_DATA = {*EXTENSIONS, ".parquet", ".arrow", ".txt", ".json", ".jsonl", ".csv", ".caption"}
"""Pictures, tables, and what lies beside a picture to describe it."""


class TableRows(Rows):
    """A table with a column of images, on disk."""

    def __init__(self, table: Any, image: str | None, label: str | bool, frame: Frame) -> None:
        """`table` is a `datasets.Dataset`. Raises DataError where a column is not there or not of its kind."""
        from datasets import Image

        features = table.features
        self._column, self._frame = image_column(features, image), frame
        named = label_column(features, label)
        if named is not None:
            values = table.select_columns([named]).with_format(None)[:][named]
            self.labels, self.label_names = numbered(named, features[named], values)
        stored = table.select_columns([self._column]).with_format(None)
        if isinstance(features[self._column], Image):
            stored = stored.cast_column(self._column, Image(decode=False))
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def content(self, row: int) -> bytes:
        """The image file in the table, or the one that it names."""
        value: Any = self._stored[row][self._column]
        path = None
        if isinstance(value, dict):
            value, path = value.get("bytes"), value.get("path")
        if value is not None:
            return bytes(value)
        if path is None:
            raise Unreadable("it has no image")
        try:
            return Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Unreadable(f"{printable(path)} cannot be read ({reason})") from None

    def opened(self, content: bytes) -> Opened:
        """The picture in it."""
        return self._frame.opened(content)

    def name(self, row: int) -> str:
        """By number."""
        return f"row {row}"


def refuse_unfit(place: Path) -> None:
    """Raises DataError where a folder is the system's own, or holds so much that it is no data set alone."""
    refuse_systems(place)
    entries = others = 0
    for _, folders, files in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".")]  # of git and the like
        entries += len(folders) + len(files)
        others += sum(os.path.splitext(name)[1].lower() not in _DATA for name in files)
        if others > _MOST_OTHERS:
            raise DataError(
                f"data.path: {printable(place)} holds more than {_MOST_OTHERS:,} files that are neither images nor "
                "tables: write the path of the folder that holds the data set alone"
            )
        if entries > MOST_ENTRIES:
            raise DataError(f"data.path: {printable(place)} {too_full(MOST_ENTRIES)}")


def saved_tables(place: Path, split: str, cache: Path | None) -> Mapping[str, Any]:
    """Splits of a folder of `save_to_disk`, of image or parquet files, or of one parquet file. Raises DataError."""
    datasets = library()
    try:
        if (place / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(place))
        if (place / "dataset_info.json").is_file() and (place / "state.json").is_file():
            table = datasets.load_from_disk(str(place))
            return {str(table.split or split): table}
        converted = None if cache is None else str(cache / "huggingface")
        if place.is_dir():
            return datasets.load_dataset(str(place), cache_dir=converted)
        if place.suffix.lower() == ".parquet":
            return datasets.load_dataset(
                "parquet", data_files={split: str(place)}, cache_dir=converted
            )
    except Exception as error:  # readers raise anything on damaged files
        raise DataError(
            f"data.path: {printable(place)} cannot be read as a data set ({_reason(error)}): write the path of a "
            "folder that save_to_disk wrote, a folder of images or parquet files, or a .parquet file"
        ) from None
    raise DataError(
        f"data.path: {printable(place)} is {'no .parquet file' if place.exists() else 'not on this machine'}: write "
        "the path of a folder or a .parquet file, or, for a data set of the hub, its commit as data.revision"
    )


def hub_tables(name: str, config: str | None, revision: str) -> Mapping[str, Any]:
    """Splits of a data set of the hub, downloaded unless they lie in the library's own cache."""
    datasets = library()
    try:
        return datasets.load_dataset(name, config, revision=revision)
    except (ConnectionError, TimeoutError) as error:
        raise EnvironmentProblem(
            f"the hub cannot be reached for {name} ({_reason(error)}): connect this machine, or save the data set "
            "elsewhere with save_to_disk, copy it here, and write its path without data.revision"
        ) from None
    except Exception as error:  # of names, revisions and configurations that are not there
        raise DataError(
            f"data.path: {name} cannot be had from the hub at revision {revision[:12]} ({_reason(error)}): check "
            "data.path, data.revision and data.config"
        ) from None


def library() -> Any:
    """The package `datasets`. Raises EnvironmentProblem where it is absent."""
    try:
        import datasets
    except ImportError:
        raise EnvironmentProblem(
            "data.kind: huggingface needs the package datasets: pip install 'diffsweep[huggingface]'"
        ) from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def table_of(tables: Mapping[str, Any], split: str) -> Any:
    """The table of one split. Raises DataError with the known ones."""
    if split not in tables:
        raise DataError(f"data.split: there is no {split}, the splits are {listing(tables)}")
    return tables[split]


def _reason(error: Exception) -> str:
    """Of the first failure: the library wraps it."""
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    return " ".join(str(first).split())[:200] or type(first).__name__
