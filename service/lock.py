"""Gives way to `trainer.files`."""

from trainer.files import FileLock, HeldError

__all__ = ["FileLock", "HeldError"]
