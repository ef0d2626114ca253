"""Files that are there as a whole or not at all."""

import os
import pathlib


def write_atomically(path: str | pathlib.Path, content: str | bytes | memoryview) -> None:
    """Writes a file beside its place and renames it: whoever reads it sees the old one or the new one."""
    path = pathlib.Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
