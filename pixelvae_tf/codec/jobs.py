"""Chunks at a time, each in a process of its own that has loaded the model: threads would wait for Python's lock."""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pixelvae_tf.codec.networks import Networks

# From the model, a task's own arguments, and a function that is told how many images more are done.
Work = Callable[..., Any]
_networks: Networks  # of a process of `run`


def run(work: Work, networks: Networks, tasks: Sequence[tuple], jobs: int, count: Callable[[int], None]) -> list:
    """What some work gives for each task.

    Args:
      work: a function of a module.
      networks: the model; it is loaded again in each process.
      tasks: arguments.
      jobs: processes; 1 for none but this one.
      count: told how many images more are done; with processes, when a task is done.

    Returns:
      The results, in order.

    Raises:
      ValueError: if one of the processes ends before its work.
    """
    if min(jobs, len(tasks)) < 2:
        return [work(networks, *task, count) for task in tasks]
    results, others = [], set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    model = (pickle.dumps(networks),)
    try:
        with concurrent.futures.ProcessPoolExecutor(min(jobs, len(tasks)), context, _start, model) as pool:
            try:
                for future in [pool.submit(_work, work, task) for task in tasks]:
                    result, number = future.result()
                    results.append(result)
                    count(number)
            except BaseException:  # what has not begun need not, and nobody waits for what has
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                raise
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ValueError(
            f"jobs must be processes that can load the model, and that memory has room for. Received: {jobs}, of which "
            'one ended before its work. A script that codes needs `if __name__ == "__main__":`'
        ) from error
    return results


def _start(pickled: bytes) -> None:
    """Loads the model. What TensorFlow says of itself comes before, when it is imported with this module."""
    global _networks
    if multiprocessing.parent_process():  # else it is a thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
        threading.Thread(target=_end_with_parent, daemon=True).start()
    _networks = pickle.loads(pickled)


def _end_with_parent() -> None:
    """Ends this process when the one that gives it work is gone; it would wait for more for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Work, task: tuple) -> tuple[Any, int]:
    """What a process does; the result, and how many images it was."""
    counts: list[int] = []
    return work(_networks, *task, counts.append), sum(counts)
