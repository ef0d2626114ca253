"""Files are there as a whole or not at all."""

import errno
import fcntl
import os
import re

import pytest

from pixelvae_tf import files


def test_a_file_takes_its_name_once_all_of_it_is_on_the_disk(tmp_path, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(("fsync", os.fstat(number).st_size)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append(("replace", paths[1].name)), replace(*paths)))
    files.write_atomically(tmp_path / "new", "text")
    assert calls == [("fsync", 4), ("replace", "new")]
    assert (tmp_path / "new").read_text() == "text"


def test_a_lock_is_held_once_and_refused_by_the_given_words(tmp_path):
    with files.locked(tmp_path / "lock", "busy"), pytest.raises(BlockingIOError, match="busy"):
        files.locked(tmp_path / "lock", "busy").__enter__()
    with files.locked(tmp_path / "lock", "busy"):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_where_there_are_no_locks_there_is_no_refusal(tmp_path, monkeypatch, code):
    """Nor a file that stands for a lock, which would refuse all others once its process was killed."""

    def no_locks(*_):
        raise OSError(code, "No locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for _ in range(2):
        with files.locked(tmp_path / "lock", "busy"), files.locked(tmp_path / "lock", "busy"):
            (tmp_path / "written").touch()
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("path", ["", "runs/a[1]", "runs/*", "runs/a?"])
def test_what_tensorflow_takes_for_a_pattern_is_refused(path):
    with pytest.raises(ValueError, match=rf"export_dir must be a path without .*Received: {re.escape(repr(path))}"):
        files.plain_path(path, "export_dir")


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "old").write_text("whole")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/old'"):
        files.write_atomically(tmp_path / "old", "other")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "whole"


def test_files_that_belong_together_are_replaced_when_all_are_written(tmp_path):
    paths = [tmp_path / name for name in ("first", "second")]
    for path in paths:
        path.write_text("old")
    with pytest.raises(TypeError):
        files.write_together({paths[0]: "new", paths[1]: 3})
    assert [path.read_text() for path in paths] == ["old", "old"] and len(list(tmp_path.iterdir())) == 2
    files.write_together(dict.fromkeys(paths, "new"))
    assert [path.read_text() for path in paths] == ["new", "new"]


def test_what_a_killed_process_left_half_written_is_nothing(tmp_path):
    (tmp_path / f"model.weights.h5.0a{files.HALF}").write_bytes(b"half")
    assert files.is_new_or_empty(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not files.is_new_or_empty(tmp_path)
