"""Folders that are made once per run of pytest, by whichever of its processes needs them first."""

import fcntl
import pathlib
import shutil
from collections.abc import Callable

from small_run import small_config

from pixelvae_tf.train import trainer


def make_once(folder: pathlib.Path, name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Makes `folder/name`, unless another process has.

    Args:
      folder: of the run of pytest.
      name: of the folder to make.
      make: makes the folder of a path, which is then renamed.

    Returns:
      The folder.
    """
    path, unfinished = folder / name, folder / f"{name}.unfinished"
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file unlocks it
        if not path.exists():
            shutil.rmtree(unfinished, ignore_errors=True)  # of a test that failed
            make(unfinished)
            unfinished.rename(path)
    return path


def train(workdir: pathlib.Path) -> None:
    """Trains a Gated PixelVAE for two steps."""
    trainer.train_and_evaluate(small_config(steps=2), workdir, trainer.make_strategy("one_device"))
