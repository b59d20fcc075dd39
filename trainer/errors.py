"""Which failures are the user's to mend? Each carries one or two lines that name the way out."""


class UserError(ValueError):
    """Something the user wrote is wrong (exit code 2)."""


class DataError(UserError):
    """A data set cannot be read or is unfit for the trial (exit code 2)."""


class EnvironmentProblem(RuntimeError):  # noqa: N818
    """The machine lacks something the trial needs (exit code 3)."""


class CheckpointError(EnvironmentProblem):
    """A checkpoint exists but cannot be used (exit code 3)."""
