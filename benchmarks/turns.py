"""Calls in processes of their own, timed in turns: whatever else the machine does slows all of them.

A worker makes its calls, gives them names and ends in `serve`; the process that compares starts `Worker`s and asks
them. Needs the standard library alone, as a worker may run in an environment of its own.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


class Times(NamedTuple):
    """Seconds of a call: on the clock, and of the processor, all threads together."""

    wall: float
    cpu: float


def serve(calls: dict[str, Callable[[], object]], **facts) -> None:
    """Answers each name on standard input with the seconds of that call, until there is no more.

    Args:
      calls: by name. Each returns when its work is done; it is run twice when it is first asked for, to compile.
      **facts: numbers and texts about them.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    print(json.dumps({"calls": list(calls), **facts}), file=answers, flush=True)
    warm = set()
    for line in sys.stdin:
        name = line.strip()
        for _ in range(0 if name in warm else 2):
            calls[name]()
        warm.add(name)
        wall, cpu = time.perf_counter(), time.process_time()
        calls[name]()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), file=answers, flush=True)


class Worker:
    """A process that serves.

    Args:
      command: what it runs.
      **environment: variables that are set for it.
    """

    def __init__(self, command: list[str], **environment: str):
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = json.loads(self._process.stdout.readline() or "{}")
        if not self.facts:
            raise SystemExit(f"{' '.join(command)} must start. Received: exit status {self._process.wait()}")

    def __contains__(self, name: str) -> bool:
        return name in self.facts["calls"]

    def __call__(self, name: str) -> Times:
        """Runs a call."""
        print(name, file=self._process.stdin, flush=True)
        return Times(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def compare(workers: dict[str, Worker], name: str, repeats: int, seconds: float = math.inf) -> dict[str, list[Times]]:
    """Runs a call of all workers that have it in turns, `repeats` times or until so many seconds have gone by."""
    start, times = time.perf_counter(), {key: [] for key, worker in workers.items() if name in worker}
    for _ in range(repeats):
        for key, taken in times.items():
            taken.append(workers[key](name))
        if time.perf_counter() - start > seconds:
            break
    return times
