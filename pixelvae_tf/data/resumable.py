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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pixelvae_tf.data.decoding import ImagesError, MachineError, is_of_the_machine
from pixelvae_tf.files import HALF, locked, write_atomically

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


def finished(output: pathlib.Path, names: Sequence[str], identity: dict[str, Any], how: str) -> dict[str, Any] | None:
    """What an output holds already.

    Args:
      output: the directory.
      names: the files that are written there; the first, JSON with `identity`, is written last.
      identity: of what is to be made.
      how: what would be the same way.

    Returns:
      The content of the first file less `identity`; None if a file is missing.

    Raises:
      ValueError: if a file of one of these names is something else, the output cannot be read, or as `require_same`.
    """
    content = _read_own(output, names[0])
    is_ours = content is not None and isinstance(content.get("identity"), dict)
    if not is_ours and _read_own(output, f"{UNFINISHED}/{IDENTITY}") is None:
        refuse_others(output, names)
    require_same(output, names[0], identity, how)
    if content is None or not is_ours or not all((output / name).exists() for name in names):
        return None
    return {name: value for name, value in content.items() if name != "identity"}


def refuse_others(output: pathlib.Path, names: Iterable[str]) -> None:
    """Raises a ValueError if an output has files of these names, which are something else."""
    for name in names:
        if os.path.lexists(output / name):
            raise ValueError(f"output must not have a {name} of something else. Received: {str(output)!r}")


def require_same(output: pathlib.Path, summary: str, identity: dict[str, Any], how: str) -> None:
    """Raises a ValueError if an output, finished or not, comes from other files or from other options.

    Args:
      output: the directory, to which nothing was written yet.
      summary: the name of the file in it that says what it holds.
      identity: of what is to be made.
      how: what would be the same way.
    """
    for name in (summary, f"{UNFINISHED}/{IDENTITY}"):
        content = _read_own(output, name)
        if content is None or (name != summary and not _records(output / UNFINISHED)):
            continue  # what was begun, and has nothing to lose, may be begun in another way
        before = content.get("identity", content)
        before = before if isinstance(before, dict) else {}
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


def _read_own(output: pathlib.Path, name: str) -> dict[str, Any] | None:
    """`read_json` of a file that this module's users write."""
    try:
        return read_json(output / name)
    except MachineError as error:
        raise ValueError(
            f"output must be a directory that can be read. Received: {str(output)!r}: {error.__cause__}"
        ) from error


def _records(folder: pathlib.Path) -> list[pathlib.Path]:
    """What is in the folder for records, beside what every output has there."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name not in (LOCK, IDENTITY) and path.suffix != HALF]


def _remove(paths: Iterable[pathlib.Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(output: pathlib.Path, identity: dict[str, Any], command: str) -> Iterator[pathlib.Path]:
    """Locks an output for the code that writes it: one process at a time may write.

    Args:
      output: the directory.
      identity: of what is made, as `require_same` compares it.
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
            _remove(records.glob(f"*{HALF}"))
            if read_json(records / IDENTITY) is None:
                _remove(_records(records))  # nobody knows of what they are
            write_atomically(records / IDENTITY, json.dumps(identity))
            try:
                yield records
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt("the same command goes on") from interrupt
            # The identity last, or what is left would have none; not the lock: NFS does not remove a file that is open.
            _remove([*_records(records), records / IDENTITY])
        shutil.rmtree(records, ignore_errors=True)
    except ImagesError:
        raise
    except BlockingIOError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(
            f"output must be a directory that can be written. Received: {str(output)!r}: {error}"
        ) from error
