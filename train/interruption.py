"""Stops a run between two steps on SIGTERM or Ctrl-C."""

import signal
from typing import Any


class Interruption:
    """Turns SIGTERM and Ctrl-C into a flag that is read between loops; a second Ctrl-C ends at once.

    Python hears of neither before the graph of a loop has ended.

    Use it as a context manager; outside the main thread it does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
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
