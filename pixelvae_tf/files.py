"""Files that are there as a whole or not at all, and one that says who may write."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator


def write_atomically(path: str | pathlib.Path, content: str | bytes | memoryview) -> None:
    """Writes a file beside its place and renames it: whoever reads it sees the old one or the new one."""
    path = pathlib.Path(path)
    # Another writer of the same file has a name of its own.
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with unfinished.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        # On a full disk it would keep the room that is missing.
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: str | pathlib.Path, refusal: str) -> Iterator[None]:
    """Holds a file's lock, which ends with the process at the latest.

    On Windows, and on a file system without locks, there is none, and it is the user's care.

    Raises:
      BlockingIOError: the refusal, if another process holds it.
    """
    with open(path, "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(refusal) from error
        except (ImportError, OSError):
            pass
        yield
