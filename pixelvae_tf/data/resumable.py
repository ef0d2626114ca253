"""Outputs that one process at a time writes, and that the same command resumes after an interruption.

OUTPUT/.unfinished/identity.json    what the output comes from, and how
OUTPUT/.unfinished/...              records of what is done
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pixelvae_tf.data.decoding import MachineError, is_of_the_machine
from pixelvae_tf.files import locked, write_atomically

UNFINISHED, IDENTITY, LOCK = ".unfinished", "identity.json", "lock"


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if it is missing or damaged.

    Raises:
      MachineError: if it is neither, but cannot be read.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise MachineError(path, error) from error
        return None
    return content if isinstance(content, dict) else None


def crc32_of(path: pathlib.Path) -> int:
    """The CRC-32 of a file."""
    code = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            code = zlib.crc32(block, code)
    return code


def fingerprint(folder: str | pathlib.Path, splits: Mapping[str, list[str]]) -> str:
    """A hash of the files: their split, name, size and time of last change."""
    code = hashlib.sha256()
    for split, paths in splits.items():
        for path in paths:
            try:
                status = os.stat(pathlib.Path(folder, path))
                state = f"{status.st_size} {status.st_mtime_ns}"
            except OSError as error:
                if is_of_the_machine(error):
                    raise MachineError(pathlib.Path(folder, path), error) from error
                state = "missing"  # A dangling link. It is left out and reported, like damaged files.
            code.update(os.fsencode(f"{split}/{path} {state}\n"))
    return code.hexdigest()


def found(output: pathlib.Path, names: Sequence[str], identity: dict[str, Any], how: str) -> dict[str, Any] | None:
    """What an output holds already, if it is finished.

    Args:
      output: the directory, to which nothing was written yet.
      names: its files; the first, JSON with `identity`, says what it holds.
      identity: of what is to be made.
      how: what would be the same way.

    Returns:
      The content of the first file; None if one of them is missing.

    Raises:
      ValueError: if the output, finished or not, comes from other files or from other options, or has a file of one of
        these names that is something else.
    """
    for record in (output / names[0], output / UNFINISHED / IDENTITY):
        content = read_json(record)
        if content is None:
            continue
        before = content.get("identity", content)
        different = [
            "other files" if name == "files" else f"{name} {before.get(name)!r} instead of {value!r}"
            for name, value in identity.items()
            if before.get(name) != value
        ]
        if different:
            raise ValueError(
                f"output must be new, or hold what was {how} from the same files. "
                f"Received: {str(output)!r}, with {', '.join(different)}. Choose another output, or remove that one"
            )
    if not os.path.lexists(output / names[0]) and not (output / UNFINISHED).exists():
        for name in names[1:]:
            if os.path.lexists(output / name):
                raise ValueError(f"output must not have a {name} of something else. Received: {str(output)!r}")
    return read_json(output / names[0]) if all((output / name).exists() for name in names) else None


@contextlib.contextmanager
def writing(output: pathlib.Path, identity: dict[str, Any], command: str) -> Iterator[pathlib.Path]:
    """Locks an output for the code that writes it: one process at a time may write.

    Args:
      output: the directory.
      identity: of what is made, as `found` compares it.
      command: the one that writes, for the message.

    Yields:
      The folder for records, which is removed at the end, but not if it was interrupted.

    Raises:
      ValueError: if another process writes there, or it cannot be written.
    """
    records = output / UNFINISHED
    refusal = f"output must be written by one {command} at a time. Received: {str(output)!r}, which another one is "
    try:
        records.mkdir(parents=True, exist_ok=True)
        with locked(records / LOCK, f"{refusal}writing"):
            write_atomically(records / IDENTITY, json.dumps(identity))
            yield records
            for path in records.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != LOCK:  # NFS does not remove a file that is open
                    path.unlink()
        shutil.rmtree(records, ignore_errors=True)
    except MachineError:
        raise
    except BlockingIOError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(
            f"output must be a directory that can be written. Received: {str(output)!r}: {error}"
        ) from error
