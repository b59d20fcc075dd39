"""The command `diffsweep`: which verbs are there, and how does each kind of mistake end?

Exit codes: 0 all is well, 1 some trials failed, 2 the input is wrong, 3 the environment is. A traceback
is printed only for a fault of diffsweep itself, or with `--debug`.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from service import nobody
from service.commands import (
    cluster,
    compare,
    delivering,
    evaluate,
    export,
    planning,
    removing,
    sample,
    show,
    sweeps,
    take_in,
    validating,
    watch,
)
from service.errors import BAD_ENVIRONMENT, BAD_INPUT, ServiceError
from trainer import lazily, terminal
from trainer.errors import EnvironmentProblem, InputError, UserError, plain_text

INTERRUPTED = 130
_ELSEWHERE = "choose another place with --home, or make room"
_IN_THE_WAY = "something else lies in this place: move it away, then the same command goes on"
_FAILING = "the disk, or the server behind it, fails: once it answers, the same command goes on"
_MENDED = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EDQUOT), _ELSEWHERE),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST), _IN_THE_WAY),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT), _FAILING),
}  # fmt: skip
"""Operating-system refusals that a person, not a programmer, mends, and how."""

app = typer.Typer(
    name="diffsweep",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Does this noise schedule, timestep sampler or weighting really train faster, or was it luck? "
    "Paired, seed-replicated, equal-compute diffusion trainings with a verdict.",
    epilog="Begin with: diffsweep run experiments/quickstart.yaml. Tab completion: diffsweep --install-completion",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            installed = version("diffsweep")
        except PackageNotFoundError:
            installed = "(a checkout that is not installed)"
        print(f"diffsweep {installed}")
        raise typer.Exit


@app.callback()
def _options(
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of any error.")
    ] = False,
) -> None:
    pass


_VERBS: dict[str, list[Callable[..., None]]] = {
    "Experiments": [sweeps.run, validating.validate, planning.plan],
    "Results and specs": [compare.compare, compare.report, watch.watch, show.show, show.schema],
    "Trained models": [sample.sample, evaluate.evaluate, export.export, take_in.import_],
    "Homes": [removing.rm],
    "Cluster": [
        *(cluster.submit, cluster.status, cluster.logs, cluster.stop),
        *(delivering.sync, cluster.doctor),
    ],
}
for _panel, _verbs in _VERBS.items():
    for _verb in _verbs:
        app.command(_verb.__name__.rstrip("_"), rich_help_panel=_panel)(_verb)


def main() -> None:
    """Entry point of the command."""
    lazily.defer()
    terminal.lenient()
    nobody.settle()
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing but our own faults is raised."""
    debug = "--debug" in arguments
    order = [*(["--debug"] if debug else []), *(a for a in arguments if a != "--debug")]
    try:
        app(order, prog_name="diffsweep")
    except SystemExit as exit_:
        return _ending(exit_)
    except KeyboardInterrupt:  # before typer takes it
        return _interrupted()
    except (InputError, UserError) as error:
        return _fail(error, BAD_INPUT, debug)
    except (ServiceError, EnvironmentProblem) as error:
        return _fail(error, BAD_ENVIRONMENT, debug)
    except MemoryError:
        why = "this process may have no more memory (`ulimit -v`, a container's limit), or the machine has none"
        return _fail(
            ServiceError(why, "give it more; the same command goes on"), BAD_ENVIRONMENT, debug
        )
    except OSError as error:
        if error.errno not in _MENDED:
            raise
        place = error.filename2 or error.filename
        said = f"{place}: {error.strerror}" if place else str(error.strerror)
        return _fail(ServiceError(said, _MENDED[error.errno]), BAD_ENVIRONMENT, debug)
    return 0


def _ending(exit_: SystemExit) -> int:
    """The code of an ordinary end; Ctrl-C and a closed pipe (`| head`) reach here wrapped by typer."""
    error: BaseException | None = exit_
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return _interrupted()
        if isinstance(error, BrokenPipeError):
            terminal.silence(sys.stdout.fileno())
            return 0
        error = error.__cause__ or error.__context__
    return exit_.code if isinstance(exit_.code, int) else 0


def _interrupted() -> int:
    print("interrupted: what was computed is kept; the same command continues", file=sys.stderr)
    return INTERRUPTED


def _fail(error: BaseException, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(plain_text(str(error)), file=sys.stderr)
    if isinstance(error, InputError) and len(error.problems) > 1:
        print(f"{len(error.problems)} problems; nothing has been run", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
