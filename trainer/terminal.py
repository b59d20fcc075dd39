"""What if nobody reads what is written, or a terminal cannot show it? Nothing that was computed is lost for it."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def lenient() -> None:
    """Let stdout and stderr write `?` for what their encoding does not have, and nowhere where they are closed."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(1), sys.stderr or _nowhere(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def outlived() -> Iterator[None]:
    """In the block, whoever reads stdout or stderr may leave (`| head`): the rest is written nowhere."""
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, _Outliving(sys.stdout))
    sys.stderr = cast(TextIO, _Outliving(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Outliving:
    """A stream whose pipe may close."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            return self._leave(len(text))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave(0)

    def _leave(self, written: int) -> int:
        silence(self._stream.fileno())
        return written


def silence(*descriptors: int) -> None:
    """What is written to these files from now on goes nowhere; one that was closed is taken."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    if nowhere not in descriptors:
        os.close(nowhere)


def _nowhere(descriptor: int) -> TextIO:
    """In place of a stream that was closed; its number stays taken, so that no file is written to by chance."""
    silence(descriptor)
    return open(descriptor, "w", encoding="utf-8")
