"""What if a terminal cannot show a character? It shows another one: nothing that was computed is lost for it."""

import io
import sys


def lenient() -> None:
    """Let stdout and stderr write `?` for what their encoding does not have, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
