"""Files are there as a whole or not at all."""

import errno
import os

import pytest

from pixelvae_tf import files


def test_a_file_takes_its_name_once_all_of_it_is_on_the_disk(tmp_path, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(("fsync", os.fstat(number).st_size)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append(("replace", paths[1].name)), replace(*paths)))
    files.write_atomically(tmp_path / "new", "text")
    assert calls == [("fsync", 4), ("replace", "new")]
    assert (tmp_path / "new").read_text() == "text"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "old").write_text("whole")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(tmp_path / "old", "other")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "whole"
