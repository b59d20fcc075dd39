"""What does the raylet start in place of a worker? This, which asks the fork server for one and ends.

`python ask_fork.py SOCKET SETUP ARGUMENTS...`. Where nobody forks, it becomes what the raylet would have started.
Nothing but the standard library is imported, and little of that.
"""

import json
import os
import socket
import sys


def forked(place: str, arguments: list[str]) -> bool:
    """Whether there is now a process of these arguments, with this one's environment, folder and open files."""
    told = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    body = json.dumps(told).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as call:
            call.connect(place)
            socket.send_fds(call, [len(body).to_bytes(8, "big")], [0, 1, 2])
            call.sendall(body)
            return call.recv(1) == b"+"
    except OSError:
        return False


if __name__ == "__main__":
    _, place, setup, *arguments = sys.argv
    if not forked(place, arguments):
        os.execv(sys.executable, [sys.executable, setup, *arguments])
