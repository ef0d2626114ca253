"""Progress of long work: a bar on a terminal, elsewhere a line every few seconds."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

LINE_EVERY_SECONDS = 5.0


def _say(text: str) -> None:
    # Without standard error, print would write to standard output.
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def announced(what: str) -> Iterator[Callable[[int, int], None]]:
    """Prints what is being done, and repeats it every few seconds until it is done.

    Args:
      what: is being done.

    Yields:
      A function that takes (units done, units in all), for the lines that follow.
    """
    start, done, counts = time.monotonic(), threading.Event(), [""]

    def remind() -> None:
        while not done.wait(LINE_EVERY_SECONDS):
            _say(f"{what}: {counts[-1]}{time.monotonic() - start:.0f} s")

    def count(number: int, total: int) -> None:
        counts[:] = [f"{number}/{total}, "]

    _say(what)
    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield count
    finally:
        done.set()
        reminder.join()


class Progress:
    """Shows how much work is done, its rate and the time left.

    Args:
      total: units of work in all.
      initial: units that were done before.
      unit: their name.
      images_per_unit: to show images/s; 0 shows units only.
    """

    def __init__(self, total: int, initial: int = 0, unit: str = "step", images_per_unit: int = 0):
        self.total, self.initial, self.done, self.unit = total, initial, initial, unit
        self.images_per_unit = images_per_unit
        self.start = self.last_line = time.monotonic()
        self.on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=initial, unit=unit) if self.on_terminal else None

    def update(self, done: int, text: str = "") -> None:
        """Reports that `done` units are finished; `text` is shown beside them."""
        step, self.done = done - self.done, done
        rate = (done - self.initial) / max(time.monotonic() - self.start, 1e-9)
        if self.images_per_unit:
            text = f"{text} {rate * self.images_per_unit:.0f} images/s".strip()
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(step)
            return
        now = time.monotonic()
        if now - self.last_line >= LINE_EVERY_SECONDS or done == self.total:
            self.last_line = now
            left = (self.total - done) / max(rate, 1e-9)
            line = f"{self.unit} {done}/{self.total} {text}".strip()
            _say(f"{line}, {left:.0f} s left")

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()


@contextlib.contextmanager
def shown(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar of what is counted from 0.

    Args:
      unit: what is counted.

    Yields:
      A function that takes (units done, units in all).
    """
    bars = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(Progress(total, unit=unit))
        bars[0].update(done)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()
