"""What if whoever runs this is nobody the machine knows? Containers run with any uid, without a home in the world."""

import os
from pathlib import Path


def settle() -> None:
    """Give a user without a home the folder of the results as one: Ray and torch ask for it when they are imported."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.path.abspath(os.environ.get("DIFFSWEEP_HOME") or ".")
        os.environ.setdefault("USER", f"uid-{os.getuid()}")
