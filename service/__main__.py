"""`python -m service ...` is `diffsweep ...`, for clusters that have nothing installed.

Ctrl-C while it is loading ends the process by the signal, as it ends any other command: there is nothing to tell yet.
"""

import signal


def main() -> None:
    """Entry point of the command."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from service.cli import main as command

    signal.signal(signal.SIGINT, before)
    command()


if __name__ == "__main__":
    main()
