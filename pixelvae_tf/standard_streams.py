"""Standard output and error of a command: closed, on a full disk or in another encoding, they never stop its work."""

import contextlib
import errno
import io
import os
import re
import select
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO

# What a shell reports for a program that wrote into a pipe without a reader.
BROKEN_PIPE = 128 + getattr(signal, "SIGPIPE", 13)


class _Stream(io.FileIO):
    """A standard stream that drops what it cannot write, and keeps the first error."""

    def __init__(self, number: int, replaced: TextIO | None = None):
        super().__init__(number, "w", closefd=False)
        self.replaced = replaced  # deleted, it would close the file
        self.error: OSError | None = None

    def write(self, data) -> int | None:  # type: ignore[override]
        try:
            while (written := super().write(data)) is None:  # full, and of a reader who told it not to block
                select.select([], [self], [])
            return written
        except OSError as error:
            self.error = self.error or error
            return len(data)


def open_standard_streams() -> None:
    """Replaces standard output and error, which may be closed, by streams that accept any text."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one. Left free, it would become that of the next file to be opened.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = _reopened(sys.stdout, 1), _reopened(sys.stderr, 2)


def _reopened(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # closed, or a program without a console
        return _text(_Stream(number), line_buffering=True)
    try:
        if stream.fileno() != number:
            return stream
    except (OSError, ValueError):  # no file: a caller captures it
        return stream
    stream.flush()
    if sys.platform == "win32":  # a console of its own kind
        stream.reconfigure(errors="backslashreplace")
        return stream
    line_buffering = stream.line_buffering or getattr(stream, "write_through", False)  # python -u
    return _text(_Stream(number, stream), encoding=stream.encoding, line_buffering=line_buffering)


def _text(raw: _Stream, **options) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), errors="backslashreplace", **options)


def output_status(command: str) -> int | str:
    """Flushes standard output; what `sys.exit` takes: 0, or a status or message where some of it was lost."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    error = getattr(getattr(buffer, "raw", None), "error", None)
    if error is None:
        return 0
    return (
        BROKEN_PIPE if error.errno == errno.EPIPE else f"{command}: standard output must be writable. Received: {error}"
    )


@contextlib.contextmanager
def without(noise: str) -> Iterator[None]:
    """Leaves lines out of what the code inside writes to standard error, its C++ parts among it.

    What is left comes when the code ends; a process that is killed inside shows nothing of it.

    Args:
      noise: a regular expression; lines that begin with what it matches are left out.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no room, or nothing may be written: then with the noise
            yield
            return
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines = [line for line in file if not re.match(noise.encode(), line)]
            with contextlib.suppress(OSError):  # full, or closed by its reader
                os.write(2, b"".join(lines))
