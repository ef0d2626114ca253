"""Stops a run between two steps when it is asked to: by SIGTERM, Ctrl-C, or a terminal that is closed."""

import signal
import sys
from typing import Any


def requests() -> list[int]:
    """The signals that ask a process to stop; a hangup is none where it is ignored, as by nohup."""
    hears = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # Windows has none
    return [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hears else [])]


def exit_on_request() -> None:
    """Lets what asks a process to stop end it by SystemExit: by themselves, signals but Ctrl-C pass over `finally`s."""
    for request in set(requests()) - {signal.SIGINT}:
        signal.signal(request, lambda number, frame: sys.exit(128 + number))


class Interruption:
    """Turns what asks a run to stop into a flag that is read between loops; a second Ctrl-C ends at once.

    Python hears of none before the graph of a loop has ended.

    Use it as a context manager; outside the main thread it does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in requests():
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # Not the main thread: its owner deals with signals.
                break
        return self

    def _note(self, number: int, frame) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
