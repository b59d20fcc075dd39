"""Where is diffusers? The only door to it, opened when one of its networks is built, or a file leaves."""

from __future__ import annotations

from types import ModuleType

from trainer.errors import EnvironmentProblem


def diffusers() -> ModuleType:
    """The library; EnvironmentProblem with the command that installs it where it is absent."""
    try:
        import diffusers as library
    except ImportError as error:
        raise EnvironmentProblem(
            f"diffusers cannot be imported ({error}): install it with `pip install diffusers`"
        ) from None
    library.utils.logging.disable_progress_bar()
    return library
