"""How are files put into a store and read from it? The only door to pyarrow's file systems.

Every error is a StoreError in one line, with the way out and without anybody's credentials.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from service.causes import is_out_of_room
from service.errors import ServiceError

if TYPE_CHECKING:
    from pyarrow import fs

_CHUNK = 8 * 1024 * 1024
_CONNECT_S, _ANSWER_S, _TRIES = 5.0, 30.0, 3
_UNKNOWN_ACCESS = "ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|TOKEN|CREDENTIALS|FORBIDDEN|EXPIRED"
_SILENT = "NETWORK_CONNECTION|TIMEOUT|UNAVAILABLE|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|curlCode"


class StoreError(ServiceError):
    """A store does not do what is asked of it."""


@dataclass(frozen=True)
class Stored:
    """One file of a store."""

    size: int
    """Bytes."""
    changed_s: float
    """When, as Unix time of the store's own clock."""


class Store:
    """The files below one URI, by names such as `trials/KEY/result.json`. May be used from any thread."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @functools.cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        return _opened(self.uri)

    @property
    def _fs(self) -> fs.FileSystem:
        """Only where errors are told: it may ask the store where it is."""
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    def check(self) -> None:
        """StoreError unless it answers, knows who asks, and has the bucket."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            self._fs.get_file_info(self._selector(self._root, recursive=False, strict=True))

    def files(self, folder: str) -> dict[str, Stored]:
        """All files below a folder, by their names in it; empty where there is none."""
        with self._told():
            root = f"{self._root}/{folder}"
            found = self._fs.get_file_info(self._selector(root, recursive=True, strict=False))
        return {
            one.path[len(root) + 1 :]: Stored(one.size, one.mtime_ns / 1e9)
            for one in found
            if one.is_file and not one.base_name.endswith(_PARTIAL)
        }

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder; empty where there is none."""
        with self._told():
            selector = self._selector(f"{self._root}/{folder}", recursive=False, strict=False)
            return sorted(
                one.base_name for one in self._fs.get_file_info(selector) if not one.is_file
            )

    def read(self, name: str) -> bytes | None:
        """A file's content, or None where there is none."""
        with self._told():
            try:
                with self._fs.open_input_stream(f"{self._root}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to a path here, which is to be checked, for it may be cut short if this raises."""
        with (
            self._told(),
            self._fs.open_input_stream(f"{self._root}/{name}") as stream,
            open(path, "wb") as file,
        ):
            while chunk := stream.read(_CHUNK):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, whole or not at all."""
        with self._told(), self._whole(name) as stream:
            stream.write(content)

    def send(self, name: str, path: Path) -> None:
        """Copy a file from here, whole or not at all; OSError where it cannot be read here."""
        with open(path, "rb") as file, self._told(), self._whole(name) as stream:
            while chunk := file.read(_CHUNK):
                stream.write(chunk)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(f"{self._root}/{name}")

    def remove_folder(self, folder: str) -> None:
        """Remove a folder and all that is in it, if it is there."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(f"{self._root}/{folder}")

    def set_aside(self, folder: str, other: str) -> None:
        """Give all files of a folder another place."""
        for name in self.files(folder):
            with self._told():
                target = f"{self._root}/{other}/{name}"
                self._make_folder(target)
                self._fs.copy_file(f"{self._root}/{folder}/{name}", target)
            self.remove(f"{folder}/{name}")

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[Any]:
        """A stream whose file appears when it is closed: object stores do so by themselves."""
        target = f"{self._root}/{name}"
        self._make_folder(target)
        if self._fs.type_name not in _BY_RENAMING:
            with self._fs.open_output_stream(target) as stream:
                yield stream
            return
        partial = f"{target}.{uuid.uuid4().hex[:8]}{_PARTIAL}"
        with self._fs.open_output_stream(partial) as stream:
            yield stream
        self._fs.move(partial, target)

    def _make_folder(self, target: str) -> None:
        if self._fs.type_name in _BY_RENAMING:
            self._fs.create_dir(target.rpartition("/")[0], recursive=True)

    @staticmethod
    def _selector(root: str, recursive: bool, strict: bool) -> fs.FileSelector:
        from pyarrow import fs

        return fs.FileSelector(root, recursive=recursive, allow_not_found=not strict)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:
            if is_out_of_room(error):  # here, not there
                raise
            raise told(self.uri, error) from None


_PARTIAL = ".partial"
_BY_RENAMING = ("local", "hdfs")
"""File systems on which a file shows while it is written."""


def told(uri: str, error: Exception) -> StoreError:
    """What a store's error means, and the way out."""
    said = str(error).split(" (Request ID")[0]
    code = re.search(r"AWS Error (\w+)", said)
    word = code[1] if code else said.splitlines()[0][:200] if said else type(error).__name__
    if re.search("NO_SUCH_BUCKET", said):
        fix = "make the bucket, or give DIFFSWEEP_HOME one that exists"
        return StoreError(f"{uri}: there is no such bucket", fix)
    if re.search(_SILENT, said):
        server = os.environ.get("AWS_ENDPOINT_URL")
        at = f" at {_bare(server)}" if server and uri.startswith("s3:") else ""
        fix = "see that the server runs, and that AWS_ENDPOINT_URL (if it is not Amazon's) and AWS_REGION are right"
        return StoreError(f"{uri} does not answer{at} ({word})", fix)
    if re.search(_UNKNOWN_ACCESS, said, re.IGNORECASE):
        fix = "renew the credentials in the environment (AWS_ACCESS_KEY_ID ..., or the role), here and on every node"
        return StoreError(f"{uri} refuses the credentials ({word})", fix)
    return StoreError(f"{uri}: {word}", "set DIFFSWEEP_HOME to a store or a folder that works")


def _bare(address: str) -> str:
    """A server's address without what stands before an `@`."""
    return address.rpartition("@")[2] if "@" in address else address


def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, and the path in it."""
    from pyarrow import fs

    parts = urlsplit(uri)
    if parts.scheme == "file":
        return fs.LocalFileSystem(), parts.path
    if parts.scheme != "s3":
        found, path = fs.FileSystem.from_uri(quote(uri, safe=":/?&="))
        return found, path.rstrip("/")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    server = (
        options.get("endpoint_override")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    known: dict[str, Any] = {}
    if server:
        scheme, found_scheme, rest = server.partition("://")
        known["endpoint_override"] = (rest if found_scheme else server).rstrip("/")
        known["scheme"] = options.get("scheme", scheme if found_scheme else "https")
    region = (
        options.get("region")
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or ("us-east-1" if server else fs.resolve_s3_region(parts.netloc))  # others take any
    )
    s3 = fs.S3FileSystem(
        region=region,
        connect_timeout=_CONNECT_S,
        request_timeout=_ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
        allow_delayed_open=True,  # one request for a small file
        **known,
    )
    return s3, f"{parts.netloc}{parts.path}".rstrip("/")
