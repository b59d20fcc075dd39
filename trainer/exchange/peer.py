"""Where is diffusers, and what does it need to be told? The only door to it, opened when a file leaves or comes."""

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
