"""Starts the workers of one run on this machine, and restarts them when one dies."""

import ctypes
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

POLL_SECONDS = 0.2
# How long the others may take to exit after one has: all may fail for the same reason.
GRACE_SECONDS = 10.0
# The same after a request to stop: they save first, and may wait for ever for the one that ended.
SAVING_GRACE_SECONDS = 45.0
# A worker that ends with these has printed why, and would fail again (sys.exit with a message; absl on flags).
ITS_OWN_FAULT = (1, 2)
STOPPED = (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM))


def cluster(num_workers: int) -> list[dict]:
    """TF_CONFIG of each worker, on free ports of this machine."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(num_workers)]
    addresses = [f"localhost:{listening.getsockname()[1]}" for listening in sockets]
    for listening in sockets:
        listening.close()
    return [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(num_workers)
    ]


def _die_with_launcher() -> None:
    """Runs in a worker before it starts: Linux sends it SIGTERM when the launcher dies."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _signal_of(status: int) -> int:
    """The signal that ended a process, from a status of the system (-15) or of the process (143); 0 for none."""
    return -status if status < 0 else max(status - 128, 0)


def _exit_status(status: int) -> int:
    """The exit status that a shell would report."""
    return status if status >= 0 else 128 - status


class Launcher:
    """One run of several workers.

    Args:
      command: a worker's; TF_CONFIG says which one it is.
      num_workers: how many.
      max_restarts: how often all are started again.
      say: called with a line for each event.
    """

    def __init__(self, command: Sequence[str], num_workers: int, max_restarts: int, say: Callable[[str], None]):
        self.command, self.num_workers, self.max_restarts, self.say = list(command), num_workers, max_restarts, say
        self.processes: list[subprocess.Popen] = []
        self.asked: int | None = None

    def stop(self, number: int, frame=None) -> None:
        """A signal handler: tells the workers to save and stop; a second Ctrl-C kills them."""
        again = self.asked is not None
        if again and number != signal.SIGINT:  # a system may ask twice, and is answered by the saving
            return
        self.asked = number
        self._tell(signal.SIGKILL if again else number)

    def run(self) -> int:
        """Runs the workers to their end, through at most `max_restarts` deaths.

        Returns:
          The exit status: 0, or that of the worker whose end explains the others'; 128 + its number for a signal.
        """
        for restarts in range(self.max_restarts + 1):
            if self.asked is not None:
                return 128 + self.asked
            with tempfile.TemporaryFile() as output:
                index, status = self._run_once(output)
                if status == 0 or self.asked is not None or _signal_of(status) in STOPPED:
                    return _exit_status(status)
                how = f"signal {-status}" if status < 0 else f"exit status {status}"
                if index > 0:  # Worker 0 has printed its own output.
                    output.seek(0)
                    self.say(f"worker {index} ended with {how}; the other workers said:")
                    self.say(output.read().decode(errors="replace"))
            if status in ITS_OWN_FAULT:
                return status
            if restarts < self.max_restarts:
                self.say(
                    f"worker {index} died ({how}); all {self.num_workers} start again from the last checkpoint, "
                    f"restart {restarts + 1} of at most {self.max_restarts}"
                )
        self.say(
            f"worker {index} died ({how}), after {self.max_restarts} restarts; run the same command again to go on"
        )
        return _exit_status(status)

    def _run_once(self, output: BinaryIO) -> tuple[int, int]:
        """Returns the worker whose end explains the others', and how it ended; (0, 0) if none ended badly."""
        try:
            for config in cluster(self.num_workers):
                self.processes.append(self._start(config, output))
            if self.asked is not None:  # stopped meanwhile: not all workers got the signal
                self._tell(self.asked)
            return self._wait()
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            self.processes.clear()

    def _start(self, config: dict, output: BinaryIO) -> subprocess.Popen:
        shown = config["task"]["index"] == 0  # the others print the same; theirs is shown if they fail
        return subprocess.Popen(
            self.command,
            env={**os.environ, "TF_CONFIG": json.dumps(config)},
            stdout=None if shown else output,
            stderr=None if shown else subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only the launcher, which passes it on once.
            preexec_fn=_die_with_launcher if sys.platform == "linux" else None,
        )

    def _tell(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)

    def _wait(self) -> tuple[int, int]:
        while True:
            statuses = [process.poll() for process in self.processes]
            if any(statuses):
                self._give_grace()
                # A death by a signal, or an exit with a message, causes the others' errors: they lost a worker.
                status, index = min(
                    (status, index) for index, process in enumerate(self.processes) if (status := process.poll())
                )
                return index, status
            if None not in statuses:
                return 0, 0
            time.sleep(POLL_SECONDS)

    def _give_grace(self) -> None:
        """Waits for the others after one has failed; without limit if all are stopping as requested."""
        start = time.monotonic()
        while None in (statuses := [process.poll() for process in self.processes]):
            died = any(status and _signal_of(status) not in STOPPED for status in statuses)
            limit = GRACE_SECONDS if self.asked is None else SAVING_GRACE_SECONDS if died else math.inf
            if time.monotonic() - start > limit:
                return
            time.sleep(POLL_SECONDS)


def train_command(flags: Sequence[str]) -> list[str]:
    """A worker's command, with flags of pixelvae-train."""
    return [sys.executable, "-m", "pixelvae_tf.train.main", "--strategy=multi_worker", *flags]
