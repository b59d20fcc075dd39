"""How does the service end when the machine is not fit? With one or two lines and the command that mends it."""

from __future__ import annotations

SOME_TRIALS_FAILED, BAD_INPUT, BAD_ENVIRONMENT = 1, 2, 3
"""Exit codes; what a person wrote (2) is `trainer.errors.UserError`."""


class ServiceError(RuntimeError):
    """The environment is not fit; `fix` is the command, or the change, that mends it."""

    def __init__(self, message: str, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(f"{message}\n  to fix it: {fix}")
