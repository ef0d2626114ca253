"""The fresh process in which an export is checked; see check.py."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable


class CheckProcess:
    """A process that has TensorFlow alone. It imports it, and later loads what is saved, while this process goes on.

        with CheckProcess() as process:
            ...  # save
            process.load(saved_model)
            ...  # compute what it must answer
            outcome = process.outcome(cases, count)

    Left early, it is ended.
    """

    def __init__(self):
        # By path, not by module name: the check must not import the package.
        command = [sys.executable, "-P", str(pathlib.Path(__file__).with_name("check.py"))]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._process = subprocess.Popen(command, env=environment, text=True, **pipes)

    def __enter__(self) -> "CheckProcess":
        return self

    def __exit__(self, *error) -> None:
        self._process.kill()
        self._process.communicate()

    def load(self, saved_model: pathlib.Path) -> None:
        """Lets it load a SavedModel."""
        self._tell(saved_model)

    def outcome(self, cases: pathlib.Path, count: Callable[[int, int], None]) -> tuple[int, str]:
        """Lets it compare the SavedModel with an .npz of cases.

        Args:
          cases: its path.
          count: is called with the number of calls that were checked, and of all.

        Returns:
          Its exit status, 0 where all agrees, and what it printed.
        """
        self._tell(cases)
        output = []
        for line in self._process.stdout or ():
            if counted := re.fullmatch(r"checked (\d+) of (\d+)\n", line):
                count(*map(int, counted.groups()))
            else:
                output.append(line)
        return self._process.wait(), "".join(output)

    def _tell(self, path: pathlib.Path) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It has failed, and `outcome` says with what.
            print(json.dumps(str(path)), file=self._process.stdin, flush=True)
