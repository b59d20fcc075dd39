"""Which arrays does a .npz or .npy file hold, and is each of them whole? Nothing is unpickled."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from trainer.data.listing import printable
from trainer.errors import DataError, EnvironmentProblem
from trainer.files import write_whole

_CHUNK = 1 << 22
"""Bytes that are read at a time."""
_MAGIC = b"\x93NUMPY"
_WRITE_AGAIN = "write it again with numpy.savez(file, arr_0=images, arr_1=labels)"


class _Cut(ValueError):  # noqa: N818
    """Something ends before its end."""


class ArrayFile:
    """A file of arrays, by name. A .npy is one array without a name, which every name finds."""

    def __init__(self, file: Path) -> None:
        """Raises DataError where it is neither, or cut short."""
        self.file = file
        self.names: tuple[str, ...] | None = None
        """Of a .npz: what each array is called; None: a .npy."""
        with self._told():
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    members = archive.namelist()
                named = (name.removesuffix(".npy") for name in members if name.endswith(".npy"))
                self.names = tuple(named)
                return
            with open(file, "rb") as opened:
                if opened.read(4) == b"PK\3\4":  # a .zip has its list of members at the end
                    raise _Cut

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type. Raises DataError where the file says of itself that it is not whole."""
        with self._told(), self._opened(name) as (opened, size):
            return _header_of(opened, size)

    def read(self, name: str) -> np.ndarray:
        """The whole array. Raises DataError where it is damaged, or of objects."""
        with self._told(), self._opened(name) as (opened, size):
            _header_of(opened, size)
            opened.seek(0)
            array = np.lib.format.read_array(opened, allow_pickle=False)
            opened.read(1)  # a member's checksum is looked at where it ends
            return array

    def digest(self, name: str, cache: Path | None) -> str:
        """sha256 of the array as a .npy, read to its end and checked; packed or not, it is the same.

        Kept in the cache as long as the file's size and times stay. Raises DataError where it is damaged.
        """
        status = os.stat(self.file)
        times = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        seen_as = json.dumps([str(self.file), self.names and name, *times])
        called = hashlib.sha256(seen_as.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        kept = None if cache is None else cache / f"array-{called}.txt"
        if kept is not None:
            with suppress(OSError, UnicodeDecodeError):
                if len(known := kept.read_text()) == 64:
                    return known
        sha = hashlib.sha256()
        with self._told(), self._opened(name) as (opened, _):
            while piece := opened.read(_CHUNK):
                sha.update(piece)
        if kept is not None:
            with suppress(OSError):
                write_whole(kept, sha.hexdigest())
        return sha.hexdigest()

    def mapped(self, name: str, folder: Path) -> np.ndarray:
        """Read as it is asked for; that of a .npz is written to `folder` first, for a packed one cannot be mapped.

        Raises DataError where it is damaged, and EnvironmentProblem where there is no room.
        """
        with self._told():
            file = self.file
            if self.names is not None:
                with zipfile.ZipFile(file) as archive:
                    file = Path(archive.extract(f"{name}.npy", folder))
            array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
            return array

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """An array as a .npy, and its bytes."""
        if self.names is None:
            with open(self.file, "rb") as opened:
                yield opened, os.fstat(opened.fileno()).st_size
            return
        with zipfile.ZipFile(self.file) as archive, archive.open(f"{name}.npy") as opened:
            yield opened, archive.getinfo(f"{name}.npy").file_size

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever goes wrong with the file is told, with the way out."""
        try:
            yield
        except _Cut:
            reason, remedy = "it is cut short", "copy it again"
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            reason, remedy = f"it is damaged: {error}", "copy it again"
        except Exception as error:  # readers raise anything on damaged files
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise EnvironmentProblem(
                    f"{tempfile.gettempdir()} has no room to unpack {printable(self.file)}: make some, set TMPDIR to "
                    "a larger disk, or save the images alone with numpy.save"
                ) from None
            reason, remedy = str(error) or type(error).__name__, _WRITE_AGAIN
        else:
            return
        reason = " ".join(reason.split())[:120]
        raise DataError(
            f"data.path: {printable(self.file)} cannot be read as .npz or .npy ({reason}): {remedy}"
        )


def _header_of(file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy of `size` bytes, and whether so many can be all."""
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    except ValueError:
        ended = not file.read(1)
        file.seek(0)
        if ended and file.read(len(_MAGIC)) in (b"", _MAGIC):
            raise _Cut from None
        raise
    if not dtype.hasobject and size < file.tell() + prod(shape) * dtype.itemsize:
        raise _Cut
    return shape, dtype
