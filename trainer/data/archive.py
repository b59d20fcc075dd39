"""Which members of a .zip are pictures? The same question as for a folder, answered without unpacking."""

import os
import zipfile
from pathlib import Path

from trainer.data.listing import Entry, Listing, is_hidden, printable, sort_out
from trainer.errors import DataError

_LARGEST = 1 << 30
"""Bytes of one member: more is no picture, and would fill the memory."""


def archive_listing(file: Path) -> Listing:
    """The pictures in a .zip. Raises DataError for what is none."""
    try:
        archive = zipfile.ZipFile(file)
        stamp = os.stat(file).st_mtime_ns
        found = Listing(file, read=archive.read)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"data.path: {printable(file)} cannot be read as a .zip ({error}): copy it again, or unpack it and name "
            "the folder"
        ) from None
    for member in archive.infolist():
        if member.is_dir():
            continue
        parts = member.filename.split("/")
        if any(is_hidden(part) for part in parts):
            found.left_out["hidden"] += 1
        elif member.flag_bits & 1:
            found.lost.append((member.filename, "it is encrypted"))
        elif member.file_size > _LARGEST:
            found.lost.append((member.filename, f"it is larger than {_LARGEST >> 30} GB"))
        else:
            entry = Entry(member.filename, member.file_size, stamp, member.CRC)
            sort_out(found, entry)
    found.sort()
    return found
