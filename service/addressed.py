"""What does a home look like that is the URI of a store? As a folder of this machine, whose name says the URI.

The name is all there is to know, so a path alone leads back to its store, in every process and on every node.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
"""How a URI begins; `C:` and plain paths do not."""
OPTIONS = {"s3": ("region", "scheme", "endpoint_override")}
"""What may follow a `?`, by scheme: where the server is, never who asks."""
_SCHEMES = ("s3", "gs", "hdfs", "file")
_LONGEST = 240
"""Bytes of a folder's name; file systems take 255."""


def scratch_of(uri: str) -> Path:
    """The folder that mirrors a store here: below DIFFSWEEP_SCRATCH, else ~/.cache/diffsweep.

    Raises ValueError that says what is wrong with the URI, and never repeats a password in it.
    """
    name = quote(_checked(uri), safe="").replace("%", "=")
    if len(name) > _LONGEST:
        raise ValueError(f"the URI is too long: its name here would have {len(name)} characters")
    scratch = os.environ.get("DIFFSWEEP_SCRATCH") or "~/.cache/diffsweep"
    try:
        return Path(os.path.abspath(os.path.expanduser(scratch))) / name
    except RuntimeError:
        raise ValueError("there is no home directory here: set DIFFSWEEP_SCRATCH") from None


def uri_of(home: Path) -> str | None:
    """Inverse of `scratch_of`; None for any other folder."""
    if "=3A=2F=2F" not in home.name:
        return None
    return unquote(home.name.replace("=", "%"))


def _checked(uri: str) -> str:
    """The URI in the one way it is written here."""
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        known = ", ".join(f"{one}://" for one in _SCHEMES)
        raise ValueError(f"`{scheme}:` is no store that is known: {known}, or a folder")
    rest = "///" + rest.lstrip("/") if scheme == "file" else "//" + rest.lstrip("/")
    parts = urlsplit(f"{scheme}:{rest}")
    unknown = [
        name
        for name, _ in parse_qsl(parts.query, keep_blank_values=True)
        if name not in OPTIONS.get(scheme, ())
    ]
    if "@" in parts.netloc or unknown:
        what = "somebody's name or password" if "@" in parts.netloc else f"`{unknown[0][:40]}`"
        raise ValueError(
            f"the URI has {what} in it: credentials come from the environment alone "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role)"
        )
    if parts.fragment or ".." in parts.path.split("/"):
        raise ValueError("write the URI as s3://bucket/prefix, without `#` and `..`")
    if not parts.netloc and scheme in ("s3", "gs"):
        raise ValueError(f"the URI names no bucket: write it as {scheme}://bucket/prefix")
    path = "/".join(part for part in parts.path.split("/") if part)
    question = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{parts.netloc}{'/' if path else ''}{path}{question}"
