"""Runs the console scripts in processes of their own that need not import TensorFlow again."""

import importlib
import multiprocessing
import os
import pathlib
import sys
import tempfile

_PROCESSES = multiprocessing.get_context("forkserver")
# Imported once, in a server that every command is forked from; the commands' own modules define flags.
_PROCESSES.set_forkserver_preload(["pixelvae_tf.train.trainer", "pixelvae_tf.export.exporter", "commands"])


def _run(module: str, arguments: list[str], folder: str, output: str) -> None:
    os.chdir(folder)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # The server was started with pytest's own streams.
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = [module, *arguments]
    importlib.import_module(f"pixelvae_tf.{module}").run()


def run_command(module: str, *arguments, folder: str | pathlib.Path = ".") -> tuple[int, str]:
    """What `python -m pixelvae_tf.<module> <arguments>` does.

    Args:
      module: below pixelvae_tf, with a function `run`.
      *arguments: of its command line.
      folder: working directory.

    Returns:
      Exit status, and all that it printed.
    """
    with tempfile.NamedTemporaryFile("r") as output:
        process = _PROCESSES.Process(target=_run, args=(module, list(map(str, arguments)), str(folder), output.name))
        process.start()
        process.join()
        return process.exitcode, output.read()
