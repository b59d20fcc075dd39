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
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"data.path: {printable(file)} cannot be read as a .zip ({error}): copy it again, or unpack it and name "
            "the folder"
        ) from None
    # some programs write backslashes, against the format
    members = {member.filename.replace("\\", "/"): member for member in archive.infolist()}
    found = Listing(file, read=lambda name: archive.read(members[name]))
    for name, member in members.items():
        *folders, last = name.split("/")
        if any(is_hidden(part) for part in (*folders, last)):
            found.left_out["hidden"] += bool(last)
            continue
        found.folders.update(folders[:1])
        if not last:
            continue
        if member.flag_bits & 1:
            found.lost.append((name, "it is encrypted"))
        elif member.file_size > _LARGEST:
            found.lost.append((name, f"it is larger than {_LARGEST >> 30} GB"))
        else:
            sort_out(found, Entry(name, member.file_size, stamp, member.CRC))
    found.sort()
    return found
