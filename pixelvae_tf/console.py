"""What the console scripts share."""

import pathlib
import signal
import sys
from collections.abc import Callable

import numpy as np
from absl import app, flags


def run(main: Callable[[list[str]], None], **options) -> None:
    """Runs the `main` of a command's module as if that module were the program.

    absl shows the docstring and the flags of `__main__`, which is pip's script: without this --help shows neither.

    Args:
      main: takes the command line that the flags leave.
      **options: of `absl.app.run`.
    """
    module = sys.modules[main.__module__]
    sys.modules["__main__"].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    try:
        app.run(main, **options)
    except KeyboardInterrupt:
        print(f"{pathlib.Path(sys.argv[0]).stem}: stopped by Ctrl-C", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def check_output(path: str) -> None:
    """Raises a ValueError unless `path` can be a file in a directory that exists."""
    if not pathlib.Path(path).absolute().parent.is_dir() or pathlib.Path(path).is_dir():
        raise ValueError(f"output must be a file in a directory that exists. Received: {path!r}")


def write_picture(path: str, picture: np.ndarray) -> None:
    """Writes a PNG; raises a ValueError where that cannot be."""
    from pixelvae_tf import pictures

    try:
        pictures.write_png(path, picture)
    except OSError as error:
        raise ValueError(f"output must be a file that can be written. Received: {path!r}: {error}") from error
