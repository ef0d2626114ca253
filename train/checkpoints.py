"""The checkpoints of a run: the latest ones, to resume from, and the best weights."""

import contextlib
import functools
import logging
import pathlib
import shutil
from collections.abc import Iterator
from typing import Protocol

import tensorflow as tf

from pixelvae_tf import runs
from pixelvae_tf.errors import first_line
from pixelvae_tf.files import write_atomically
from pixelvae_tf.train import workdir as workdir_lib

LOGGER = logging.getLogger("pixelvae_tf")


class State(Protocol):
    """What checkpoints hold; `steps.TrainState` is one.

    Attributes:
      step: int64, steps done.
      best_bound_nats: float64, the best validation bound so far.
    """

    step: tf.Variable
    best_bound_nats: tf.Variable

    def checkpoint(self) -> tf.train.Checkpoint:
        """Tracks everything that a resumed run needs."""

    def best_checkpoint(self) -> tf.train.Checkpoint:
        """Tracks what is kept of the best weights, including `best_bound_nats`."""


class Checkpoints:
    """Reads and writes the checkpoints in a workdir. All workers read; only the chief writes.

    Args:
      workdir: the run's.
      state: what is saved and restored.

    Attributes:
      good: path of the last checkpoint that this process read or wrote, or None.
    """

    def __init__(self, workdir: pathlib.Path, state: State):
        self.workdir, self.state = workdir, state
        self.good: str | None = None
        # The checkpoints that existed when this process last read or wrote one.
        self._present: list[str] = []
        self._checkpoint = state.checkpoint()

    # A list that is damaged is written anew: not before this process writes here.
    @functools.cached_property
    def _latest(self) -> tf.train.CheckpointManager:
        return _manage(self._checkpoint, self.workdir / runs.CHECKPOINTS, max_to_keep=2)

    @functools.cached_property
    def _best(self) -> tf.train.CheckpointManager:
        return _manage(self.state.best_checkpoint(), self.workdir / runs.BEST, max_to_keep=1)

    def restore(self) -> bool:
        """Restores the newest checkpoint that can be read, and the bound of the best weights.

        Returns:
          Whether there was a checkpoint.

        Raises:
          ValueError: if there are checkpoints and none can be read.
        """
        folder = self.workdir / runs.CHECKPOINTS
        self._present = runs.checkpoints(folder)
        self.good = runs.read_newest(
            folder, lambda path: self._checkpoint.restore(path).assert_existing_objects_matched()
        )
        if self._present and not self.good:
            raise ValueError(
                "workdir must hold a checkpoint of this model that can be read. "
                f"Received: {str(self.workdir)!r}, where none of {len(self._present)} can"
            )
        if self.good:
            LOGGER.info("Going on from step %d (%s)", self.state.step.numpy(), self.good)
        self._restore_best_bound()
        return self.good is not None

    def _restore_best_bound(self) -> None:
        """Restores the bound of the best weights on disk.

        A run that was killed may have found better ones than its last checkpoint knows of. Where they cannot be read
        any more, those of the next evaluation are the best.
        """

        def read(path: str) -> None:
            reader = tf.train.load_checkpoint(path)
            # Read every tensor: each has its own checksum.
            tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
            self.state.best_bound_nats.assign(float(tensors["best_bound_nats/.ATTRIBUTES/VARIABLE_VALUE"]))

        if runs.read_newest(self.workdir / runs.BEST, read) is None:
            self.state.best_bound_nats.assign(float("inf"))

    def save(self, evaluation_is_due: bool = False) -> None:
        """Saves the state as a checkpoint of its step, and notes whether that is still to be evaluated."""
        with self.writing():
            if evaluation_is_due:
                write_atomically(self.workdir / runs.DUE, f"{self.state.step.numpy()}\n")
            self.good = self._latest.save(checkpoint_number=int(self.state.step.numpy()))
            self._present = runs.checkpoints(self.workdir / runs.CHECKPOINTS)

    @property
    def evaluation_is_due(self) -> bool:
        """Whether the state's step is still to be evaluated: it was saved, and then the process ended."""
        note = self.workdir / runs.DUE
        return note.is_file() and note.read_text(errors="replace") == f"{self.state.step.numpy()}\n"

    def evaluated(self) -> None:
        """Notes that the state's step is evaluated."""
        with self.writing():
            (self.workdir / runs.DUE).unlink(missing_ok=True)

    def save_best(self) -> None:
        """Saves the averaged weights as the best ones."""
        with self.writing():
            self._best.save(checkpoint_number=int(self.state.step.numpy()))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in the workdir.

        Raises:
          BlockingIOError: if another process trains there, or has since this one read its checkpoint.
        """
        with contextlib.ExitStack() as stack:
            with self.writing():
                stack.enter_context(workdir_lib.lock(self.workdir))
                self._check_unchanged()
                # A process that was killed while it saved leaves what it had written.
                for folder in (runs.CHECKPOINTS, runs.BEST):
                    for unfinished in (self.workdir / folder).glob("ckpt-*_temp"):
                        shutil.rmtree(unfinished)
            yield

    def _check_unchanged(self) -> None:
        """Raises if another process has trained since this one read its checkpoint, before it held the lock."""
        if runs.checkpoints(self.workdir / runs.CHECKPOINTS) != self._present:
            raise BlockingIOError(
                "workdir must have the checkpoints that were there when this process read the last of them. Received: "
                f"{str(self.workdir)!r}, in which another one has trained since; run the same command again to "
                "go on from there"
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Explains a failed write to the workdir: what to do when no space is left.

        Raises:
          OSError: for any error of TensorFlow or the system.
        """
        try:
            yield
        except BlockingIOError:  # another process holds the lock
            raise
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"workdir must be writable and have room for the run. Received: {str(self.workdir)!r}: "
                f"{first_line(error)}. The last good checkpoint, {self.good or 'none yet'}, is kept; when there "
                "is room, run the same command again to go on"
            ) from error


def _manage(checkpoint: tf.train.Checkpoint, folder: pathlib.Path, max_to_keep: int) -> tf.train.CheckpointManager:
    """A manager of the checkpoints in a folder, whose list of them may be damaged; see `runs.checkpoints`."""
    present = runs.checkpoints(folder)
    if present and sorted(_listed(folder)) != sorted(present):
        # Checkpoints that are not in the list would never be deleted.
        names = [pathlib.Path(path).name for path in present]
        update = tf.compat.v1.train.update_checkpoint_state  # TensorFlow 2 has no other name for it
        # Older than any checkpoint, but not marked as kept for ever.
        times = {"all_model_checkpoint_timestamps": [1.0] * len(names), "last_preserved_timestamp": 0.0}
        update(str(folder.resolve()), names[-1], all_model_checkpoint_paths=names, **times)
    return tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep)


def _listed(folder: pathlib.Path) -> list[str]:
    """The checkpoints of TensorFlow's list, which may be missing or torn."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError:
        return []
    return [] if state is None else [str(folder / pathlib.Path(path).name) for path in state.all_model_checkpoint_paths]
