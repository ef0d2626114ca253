"""Stops a run between two steps when it is asked to: by SIGTERM, Ctrl-C, or a terminal that is closed."""

import signal
from typing import Any


def requests() -> list[int]:
    """The signals that ask a process to stop; a hangup is none where it is ignored, as by nohup."""
    hangups = [signal.Signals[name] for name in ("SIGHUP",) if hasattr(signal, name)]  # none on Windows
    heard = [number for number in hangups if signal.getsignal(number) != signal.SIG_IGN]
    return [signal.SIGTERM, signal.SIGINT, *heard]


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
