"""Who is told when something happened and nobody is looking? A command, or a POST to an address, of the environment.

A YAML may say of what; where to, and what is run there, is a matter of whoever runs it: addresses often are secrets,
and a YAML from elsewhere must run nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from service.progress import OCCASIONS, Occasion, TrialFailed, describe

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.progress import Event
    from service.settings import Settings

_TIMEOUT_S = 10.0
_TRIES = 3
_PAUSE_S = 1.0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class Notifier:
    """Tells of one run. Nothing waits for it but the end of a run, and nothing fails with it."""

    def __init__(
        self,
        experiment: str,
        settings: Settings,
        occasions: Collection[Occasion] = OCCASIONS,
        say: Callable[[str], None] = _to_stderr,
    ) -> None:
        """`say` tells a person that it did not work; it never says the address."""
        self._experiment, self._occasions, self._say = experiment, occasions, say
        hook = settings.webhook
        self._webhook = "" if hook is None else hook.get_secret_value()
        self._command = settings.notify_command or ""
        self._told: list[threading.Thread] = []
        self._failed_keys: set[str] = set()

    @classmethod
    def of(
        cls, experiment: Experiment, settings: Settings, say: Callable[[str], None] = _to_stderr
    ) -> Notifier:
        """As its YAML and the environment say."""
        return cls(experiment.name, settings, experiment.spec.notify, say)

    def listen(self, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
        """`on_event`, which also tells of every trial that failed, once."""
        if "failure" not in self._occasions or not self._is_on:
            return on_event

        def take(event: Event) -> None:
            on_event(event)
            if isinstance(event, TrialFailed) and event.key not in self._failed_keys:
                self._failed_keys.add(event.key)
                more = {"cell": event.cell, "seed": event.seed, "reason": event.reason}
                self.tell("failure", describe(event, ()), more)

        return take

    @property
    def _is_on(self) -> bool:
        return bool(self._webhook or self._command)

    def tell(self, occasion: Occasion, text: str, more: Mapping[str, Any] | None = None) -> None:
        """Send `text`, a line for a person, and what else is known of it, without waiting."""
        if occasion not in self._occasions or not self._is_on:
            return
        head = {"event": occasion, "experiment": self._experiment}
        body = {**head, "text": f"{self._experiment}: {text}", **(more or {})}
        thread = threading.Thread(target=self._send, args=(body,), daemon=True)
        thread.start()
        self._told.append(thread)

    def close(self, patience_s: float = 2 * _TIMEOUT_S) -> None:
        """Wait for what is on its way."""
        for thread in self._told:
            thread.join(patience_s)

    def _send(self, body: Mapping[str, Any]) -> None:
        text = json.dumps(body)
        if self._webhook:
            self._try("the webhook", lambda: _post(self._webhook, text))
        if self._command:
            self._try("the notifying command", lambda: _run(self._command, body, text))

    def _try(self, what: str, send: Callable[[], None]) -> None:
        problem = ""
        for attempt in range(_TRIES):
            try:
                send()
                return
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                problem = _without_address(error)
                threading.Event().wait(_PAUSE_S * 2**attempt)
        self._say(f"{what} was not told: {problem}")


def _post(address: str, text: str) -> None:
    asked = urllib.request.Request(
        address, text.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=_TIMEOUT_S):
        pass


def _run(command: str, body: Mapping[str, Any], text: str) -> None:
    """Through the shell, as the person wrote it; the JSON on its input, the line as $1."""
    subprocess.run(
        ["sh", "-c", command, "diffsweep", str(body["text"])],
        input=text, text=True, check=True, capture_output=True, timeout=_TIMEOUT_S,
    )  # fmt: skip


def _without_address(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, subprocess.CalledProcessError):
        return f"it exits with {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it takes more than {_TIMEOUT_S:g} s"
    if isinstance(error, urllib.error.URLError):
        return str(getattr(error.reason, "strerror", None) or type(error.reason).__name__)
    return type(error).__name__
