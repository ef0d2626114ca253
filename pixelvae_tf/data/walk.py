"""Finds the image files of a folder, and reports the others."""

import collections
import logging
import os
import pathlib

from pixelvae_tf.data.decoding import EXTENSIONS, MachineError, is_of_the_machine
from pixelvae_tf.files import is_hidden

LOGGER = logging.getLogger("pixelvae_tf")
# Lines already logged: each split walks the folder again, and one line is enough.
_SAID: set[str] = set()


def say(line: str) -> None:
    """Logs a warning once."""
    if line not in _SAID:
        _SAID.add(line)
        LOGGER.warning("%s", line)


def walk_images(folder: pathlib.Path, name: str) -> "Walk":
    """Walks through a folder that must hold images, and reports the other files.

    Args:
      folder: searched recursively.
      name: what the messages call it.

    Raises:
      ValueError: if there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{name} must be a directory of images. Received: {str(folder)!r}")
    walk = Walk(folder)
    walk.say_what_is_passed_over()
    if not walk.paths:
        raise ValueError(f"{name} must hold images ({', '.join(EXTENSIONS)}). Received: {str(folder)!r}, with none")
    return walk


class Walk:
    """A walk through a folder. Links are followed, and each folder is entered once.

    Attributes:
      paths: of all regular files that are called images, relative to the folder, and of links that lead nowhere.
      subfolders: the folder's own that are not hidden.
    """

    def __init__(self, folder: pathlib.Path):
        self.paths: list[str] = []
        self.subfolders: list[str] = []
        self._folder, self._entered = folder, {}
        self._hidden: list[str] = []
        self._special: list[str] = []
        self._others: collections.Counter[str] = collections.Counter()
        self._enter(str(folder), "", hidden=False)

    def say_what_is_passed_over(self) -> None:
        """A line each for images that are hidden, for what is no regular file, and for files of other kinds."""
        for paths, what in ((self._hidden, "hidden"), (self._special, "no regular files")):
            if paths:
                say(f"Passed over in {self._folder}: {len(paths)} {what}, such as {min(paths)!a}")
        if self._others:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self._others.items()))
            say(f"Passed over in {self._folder}: {self._others.total()} not called images ({kinds})")

    def _enter(self, root: str, relative: str, hidden: bool) -> None:
        before = root if hidden else self._entered.setdefault(os.path.realpath(root), root)
        if before != root:
            if not root.startswith(os.path.join(before, "")):  # A link that leads back is no loss.
                say(f"Left out: {root!a}, which is the folder {before!a} by another name")
            return
        try:
            with os.scandir(root) as entries:
                # Which of two names a folder goes by must not depend on the file system.
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if hidden or not is_of_the_machine(error):
                return
            raise MachineError(root, error) from error
        for entry in listed:
            self._take(entry, f"{relative}{entry.name}", hidden or is_hidden(entry.name))

    def _take(self, entry: os.DirEntry, path: str, hidden: bool) -> None:
        if hidden and entry.is_symlink():
            return
        kind = _kind(entry)
        if kind == "folder":
            if "/" not in path and not hidden:
                self.subfolders.append(path)
            self._enter(entry.path, f"{path}/", hidden)
        elif not entry.name.lower().endswith(EXTENSIONS):
            if not hidden:
                self._others[os.path.splitext(entry.name)[1].lower() or "without an extension"] += 1
        elif hidden:
            self._hidden.append(path)
        else:
            (self.paths if kind == "file" else self._special).append(path)


def _kind(entry: os.DirEntry) -> str:
    """ "folder", "file" or "special" of what an entry is or leads to."""
    try:
        if entry.is_dir():
            return "folder"
        # Whoever reads a link that leads nowhere says so.
        return "file" if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)) else "special"
    except OSError as error:
        if is_of_the_machine(error):
            raise MachineError(entry.path, error) from error
        return "file"
