"""Runs the console scripts in processes of their own that need not import TensorFlow again."""

import importlib
import multiprocessing
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable

import pytest

from pixelvae_tf import console

_PROCESSES = multiprocessing.get_context("forkserver")
# Imported once, in a server that every command is forked from; the commands' own modules define flags.
_PROCESSES.set_forkserver_preload(["pixelvae_tf.train.trainer", "pixelvae_tf.export.exporter"])
TIMEOUT_SECONDS = 300
# pip's names of the scripts of one module.
MODEL, SAMPLE = "export.model_main", "export.model_main:run_sample"
PROGRAMS = {MODEL: "bin/pixelvae-model", SAMPLE: "bin/pixelvae-sample"}


def _run(module: str, arguments: list[str], folder: str, environment: dict[str, str], prepare) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    # The server was started with pytest's own streams.
    for number, name in ((1, "stdout"), (2, "stderr")):
        with open(name, "w") as file:
            os.dup2(file.fileno(), number)
        setattr(sys, name, os.fdopen(number, "w", buffering=1))
    sys.argv = [PROGRAMS.get(module, module), *arguments]
    if prepare:
        prepare()
    name, _, function = module.partition(":")
    getattr(importlib.import_module(f"pixelvae_tf.{name}"), function or "run")()


def run_command(
    module: str, *arguments, prepare: Callable[[], None] | None = None, **environment: str
) -> tuple[int, str, str]:
    """What `python -m pixelvae_tf.<module> <arguments>` does, in a folder of its own.

    Args:
      module: below pixelvae_tf, with a function `run`; or that and another function, as "export.model_main:run_sample".
      *arguments: of its command line.
      prepare: a function of a module, called in its process before it.
      **environment: its own variables.

    Returns:
      Exit status, standard output, standard error.

    Raises:
      TimeoutError: if it takes minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = _PROCESSES.Process(
            target=_run, args=(module, list(map(str, arguments)), folder, environment, prepare)
        )
        process.start()
        process.join(TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{module} {arguments} ran for more than {TIMEOUT_SECONDS} s")
        return process.exitcode, *(pathlib.Path(folder, name).read_text() for name in ("stdout", "stderr"))


def run_function(function):
    """What a function of a test's module returns, called in a process of its own."""
    with _PROCESSES.Pool(1) as pool:
        return pool.apply(function)


def exit_code(monkeypatch, command: str, error: BaseException) -> int | str:
    """What a command exits with in this process whose `main` raises an error."""

    def failing(main, **options):
        raise error

    monkeypatch.setattr(console.app, "run", failing)
    monkeypatch.setattr(sys, "argv", [f"bin/{command}"])
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", None)
    with pytest.raises(SystemExit) as ended:
        console.run(failing)
    return ended.value.code
