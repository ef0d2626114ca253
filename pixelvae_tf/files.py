"""Paths that users write, files that exist whole or not at all, tables as CSV, and a lock for a single writer."""

import contextlib
import csv
import errno
import io
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What a file is called while `write_atomically` writes it: NAME.x.unfinished. A process that is killed leaves it.
HALF = ".unfinished"
# Copies, previews and rubbish that file managers, servers and archives leave, beside all names that start with a dot.
HIDDEN = {"@eadir", "__macosx", "#recycle", "@recycle", "$recycle.bin", "lost+found", "system volume information"}
HIDDEN |= {"recycler", "recycled", "found.000", "network trash folder", "temporary items", "@tmp", "__pycache__"}
HIDDEN |= {"#snapshot", "@snapshot", "~snapshot", "@recently-snapshot"}  # of file servers: all images once more
HIDDEN |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}


def is_hidden(name: str) -> bool:
    """Whether no images are read from a file or folder of this name."""
    return name.startswith(".") or name.lower() in HIDDEN


def local_path(path: str | os.PathLike, name: str) -> pathlib.Path:
    """A path as a user writes it, with ~ expanded: shells do not expand it after the = of a flag.

    Args:
      path: of this machine.
      name: what the messages call it.

    Raises:
      ValueError: for a URL or a path of another machine, such as gs://bucket/run or user@host:/run, of which a folder
        called gs: or user@host: would be made; for a ~ that is nobody's; and for a path that no file can have.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise ValueError(f"{name} must be a path without NUL characters. Received: {text!r}")
    # pathlib turns two slashes into one. With one slash it may be a folder of that name.
    url = re.match(r"([^/\\]{2,}:)(//?)", text)
    if url and (url[2] == "//" or not os.path.isdir(url[1])):
        raise ValueError(f"{name} must be a path on this machine, not a URL. Received: {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # TensorFlow and JSON take UTF-8 only
        raise ValueError(f"{name} must be a path whose characters are UTF-8. Received: {text!r}") from error
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name} must be a path on this machine. Received: {text!r}: {error}") from error


def plain_path(path: str | os.PathLike, name: str) -> pathlib.Path:
    """`local_path` of what TensorFlow reads and writes, which takes some paths for patterns of others.

    Raises:
      ValueError: as `local_path`; for such a path; and for an empty one.
    """
    text = os.fspath(path)
    if not text or set(text) & set("*?[]") or ("\\" in text and os.sep == "/"):
        raise ValueError(f"{name} must be a path without *, ?, [, ] and \\, and not empty. Received: {text!r}")
    return local_path(path, name)


def is_new_or_empty(folder: pathlib.Path) -> bool:
    """Whether what is written there can replace nothing but what a killed process left half written."""
    return not folder.exists() or (folder.is_dir() and all(path.suffix == HALF for path in folder.iterdir()))


def require_outside(output: pathlib.Path, folder: pathlib.Path, output_name: str, folder_name: str) -> None:
    """Raises a ValueError if an output would be inside a folder of images, also through a link."""
    inner = pathlib.Path(os.path.realpath(output))
    if any(inner.is_relative_to(outer) for outer in _linked_folders(folder)):
        raise ValueError(
            f"{output_name} must not lie in {folder_name}: what is written there would become part of the images. "
            f"Received: {str(output)!r} in {str(folder)!r}"
        )


def _linked_folders(folder: pathlib.Path) -> Iterator[str]:
    """The real paths of a folder and of all folders that its links lead to, recursively."""
    visited, waiting = set(), [folder]
    while waiting:
        if (real := os.path.realpath(waiting.pop())) in visited:
            continue
        visited.add(real)
        yield real
        for root, folders, _ in os.walk(real):
            folders[:] = [name for name in folders if not is_hidden(name)]
            waiting += [path for name in folders if (path := pathlib.Path(root, name)).is_symlink()]


def write_atomically(path: str | pathlib.Path, content: str | bytes | memoryview) -> None:
    """Writes a file under another name and renames it: readers see the old content or the new.

    A link stays, and the file that it leads to is written. Who may read and write a file stays too.

    Raises:
      OSError: if it cannot be written, or is a device or a folder.
    """
    write_together({path: content})


def write_together(contents: Mapping[str | pathlib.Path, str | bytes | memoryview]) -> None:
    """Writes files as `write_atomically` does, all of them before the first is renamed."""
    unfinished: dict[pathlib.Path, pathlib.Path] = {}
    try:
        for name, content in contents.items():
            path = pathlib.Path(os.path.realpath(name))
            if path.exists() and not path.is_file():
                raise OSError(f"{path} must be a regular file to be written in its place")
            # Concurrent writers of the same file use different names.
            unfinished[path] = path.with_name(f"{path.name}.{uuid.uuid4().hex}{HALF}")
            try:
                _write(unfinished[path], content, path)
            except OSError as error:
                if error.filename is None:  # that of a full disk
                    error.filename = str(path)
                raise
        for path, half in unfinished.items():
            os.replace(half, path)
    finally:
        # Free the space, which a full disk needs.
        for half in unfinished.values():
            half.unlink(missing_ok=True)


def _write(path: pathlib.Path, content: str | bytes | memoryview, model: pathlib.Path) -> None:
    """Writes a new file, which those may read who may read the other one."""
    with path.open("xb") as file:
        if model.exists():
            shutil.copymode(model, path)
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def as_csv(columns: Mapping[str, Iterable[Any]]) -> str:
    """A table as CSV, with a line of names; numbers of type float, NumPy's float64 too, have seven digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([f"{value:.7g}" if isinstance(value, float) else value for value in row])
    return text.getvalue()


@contextlib.contextmanager
def locked(path: str | pathlib.Path, refusal: str) -> Iterator[None]:
    """Holds a file lock, which is released when the process ends at the latest.

    On a file system without locks there is none, and it is the user's care: a file that stands for one would outlive a
    process that is killed.

    Raises:
      BlockingIOError: the refusal, if another process holds it.
    """
    import filelock  # Imported late: only long writes need it.

    lock = filelock.FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BlockingIOError(refusal) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    try:
        yield
    finally:
        lock.release()
