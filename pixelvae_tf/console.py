"""Code that the console scripts share."""

import contextlib
import functools
import os
import pathlib
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import NoReturn

import numpy as np
from absl import app, flags
from absl import logging as absl_logging

from pixelvae_tf import hub, keras_backend, standard_streams
from pixelvae_tf.errors import first_line
from pixelvae_tf.files import is_new_or_empty, local_path
from pixelvae_tf.suggestions import did_you_mean

flags.disclaim_key_flags()  # The flags that are defined through here are the calling module's.


# The end of a message on flags.
EXPLAINED = ". --help explains the flags"
# Unreadable files that a command names.
MOST_NAMED = 10


class _Help(app.HelpFlag):
    """--help with status 0 and -h, where absl's own ends with status 1 and has no -h."""

    def __init__(self, epilogue: Callable[[], str] | None):
        super().__init__()
        self.epilogue = epilogue
        self.allow_override = True  # absl has defined its own

    def parse(self, arg) -> None:
        """Prints the help and ends the program."""
        if not arg:
            return
        app.usage(shorthelp=True, writeto_stdout=True)
        if self.epilogue is not None:
            print(self.epilogue())
        sys.exit(0)


def run(main: Callable[[list[str]], None], epilogue: Callable[[], str] | None = None, **options) -> None:
    """Runs the `main` of a command's module as if that module were the program.

    absl shows the docstring and the flags of `__main__`, which is pip's script: without this --help shows neither.

    Args:
      main: takes the command line that the flags leave.
      epilogue: what --help prints after the flags.
      **options: of `absl.app.run`.
    """
    app.define_help_flags()
    flags.DEFINE_flag(_Help(epilogue), module_name="absl.app")
    sys.argv[1:] = ["--help" if argument == "-h" else argument for argument in sys.argv[1:]]
    module = sys.modules[main.__module__]
    sys.modules["__main__"].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    standard_streams.open_standard_streams()
    _print_warnings()
    absl_logging.get_absl_handler().python_handler.stream = sys.stderr
    try:
        app.run(functools.partial(_with_short_usage_errors, main), **{"flags_parser": _parse_flags, **options})
    except SystemExit as ended:
        status = ended.code
    except KeyboardInterrupt as interrupt:
        print(f"{command()}: stopped by Ctrl-C{f'; {interrupt}' if interrupt.args else ''}", file=sys.stderr)
        status = 128 + signal.SIGINT
    except Exception as error:
        reason = _reason(error)
        if not reason:
            raise
        status = f"{command()}: {reason}"
    output_status = standard_streams.output_status(command())
    sys.exit(status or output_status)


def _with_short_usage_errors(main: Callable[[list[str]], None], argv: list[str]) -> None:
    """Runs `main`; absl prints all of --help above what a UsageError says."""
    try:
        main(argv)
    except app.UsageError as error:
        raise SystemExit(f"{command()}: {error}{EXPLAINED}") from error


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        refuse_flags(error)


def refuse_flags(error: flags.Error, others: Iterable[str] = ()) -> NoReturn:
    """Ends the command with one message, where absl prints several lines.

    Args:
      error: what parsing the flags raised.
      others: flags that could be meant, beside those that are defined.
    """
    if isinstance(error, flags.UnrecognizedFlagError):
        meant = did_you_mean(f"--{error.flagname}", [*(f"--{name}" for name in flags.FLAGS), *others])
        reason = f"unknown flag --{error.flagname}{meant}"
    elif missing := re.findall(r"Flag (--\w+) must have a value other than None", str(error)):
        reason = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} required"
    elif exclusive := re.search(r"((?:Exactly|At most) one of) \((.*)\) must have a value", str(error)):
        reason = f"{exclusive[1]} --{exclusive[2].replace(', ', ', --')} must be given"
    else:
        reason = " ".join(str(error).split())
    raise SystemExit(f"{command()}: {reason}{EXPLAINED}".replace("?.", "?")) from error


def _print_warnings() -> None:
    """Prints warnings that PYTHONWARNINGS=error would raise: that setting is for one's own tests, not for imports."""
    if any(action == "error" for action, *_ in warnings.filters):
        warnings.simplefilter("default")


# Lines that TensorFlow writes on import, before its log level takes effect.
NOISE = r"I\d{4} |WARNING: All log messages before absl::InitializeLog|To enable the following instructions"
# Device files of NVIDIA's driver, on Linux and on WSL.
DEVICES = ("/dev/nvidiactl", "/dev/dxg")


def start_tensorflow(devices_follow: bool = False) -> None:
    """Imports TensorFlow and prints its devices, instead of its own messages below errors.

    TF_CPP_MIN_LOG_LEVEL=0 in the environment shows them.

    Args:
      devices_follow: whether the command has still to make devices; `leave_out_onednn` is called when it has.
    """
    if "tensorflow" in sys.modules:
        return
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Without a driver, CUDA logs its absence as an error.
    driver = any(map(os.path.exists, DEVICES))
    noise = NOISE if driver else rf"{NOISE}|E\d{{4}} .*cuInit"
    with standard_streams.without(noise) if level != "0" else contextlib.nullcontext():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    devices = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}" if gpus else "no GPU found: CPU"
    why = " (TF_CPP_MIN_LOG_LEVEL=0 shows why)" if driver and not gpus else ""
    print(f"{command()}: {devices}{why}", file=sys.stderr)
    if not devices_follow:
        leave_out_onednn()


def leave_out_onednn() -> None:
    """Triggers and drops the error that oneDNN logs once per process when it leaves integers to TensorFlow."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return
    import tensorflow as tf

    with standard_streams.without(r"E\d{4} .*oneDNN supports DT_INT32 only on"):
        tf.transpose(tf.zeros((2, 2), tf.int32))


def _reason(error: Exception) -> str:
    """The message for an unexpected error that is not a bug; empty for a bug."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's
        return f"there must be enough memory; smaller batches or fewer images take less. {first_line(error)}"
    try:
        # Whatever imports Keras first fails in a way of its own.
        keras_backend.check()
    except keras_backend.WrongBackend as wrong:
        return str(wrong)
    return ""


def refuse_arguments(argv: list[str]) -> None:
    """Raises a usage error for arguments beside the flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")


def command() -> str:
    """The name of the command that runs, for its messages."""
    return pathlib.Path(sys.argv[0]).stem


class _PathParser(flags.ArgumentParser):
    """Parses a path on this machine; see `files.local_path`."""

    syntactic_help = "a path"

    def __init__(self, may_be_empty: bool = False):
        self._may_be_empty = may_be_empty

    def parse(self, argument: str) -> str:
        """The path with ~ expanded."""
        if argument:
            return str(local_path(argument, "it"))
        if not self._may_be_empty:  # as of a variable of the shell that is not set: it would be the current directory
            raise ValueError("it must be a path, and not empty. Received: ''")
        return argument

    def flag_type(self) -> str:
        """As absl's --help calls it."""
        return "path"


class _PathsParser(flags.ListParser):
    """Parses several, separated by commas."""

    def parse(self, argument: str | list[str]) -> list[str]:
        """Each as `_PathParser` does."""
        return [_PathParser().parse(path) for path in super().parse(argument)]


def define_path(name: str, default: str | None, description: str, **options) -> flags.FlagHolder:
    """Defines a flag for a path on this machine. ~ is expanded; URLs are refused, and "" unless it is the default.

    Args:
      name, default, description, **options: as of `flags.DEFINE_string`.
    """
    return flags.DEFINE(_PathParser(may_be_empty=default == ""), name, default, description, **options)


def define_paths(name: str, default: list[str] | None, description: str, **options) -> flags.FlagHolder:
    """The same for a list of paths."""
    return flags.DEFINE(_PathsParser(), name, default, description, serializer=flags.CsvListSerializer(","), **options)


class _PretrainedParser(flags.ArgumentParser):
    """Parses the name of trained weights; see `hub`."""

    syntactic_help = "trained weights"

    def parse(self, argument: str) -> str:
        """The name, or the folder with ~ expanded."""
        hub.check(argument)
        return argument if hub.is_portable(argument) else str(local_path(argument, "it"))

    def flag_type(self) -> str:
        """As absl's --help calls it."""
        return "weights"


def define_pretrained(description: str) -> flags.FlagHolder:
    """Defines --pretrained: trained weights of the package, a folder or a hub.

    Args:
      description: the beginning of what --help says.
    """
    forms = "a folder that save_to_preset wrote, hf://user/name or kaggle://user/model/keras/variation"
    return flags.DEFINE(_PretrainedParser(), "pretrained", None, f"{description}: {', '.join(hub.names())}, {forms}.")


def check_file(path: str, inputs: Iterable[str] = ()) -> None:
    """Raises a ValueError unless a file can be written there that is none of those that are read."""
    written = pathlib.Path(os.path.realpath(path))  # what a link leads to
    try:
        writable = written.parent.is_dir() and (written.is_file() or not written.exists())
        if writable:
            tempfile.TemporaryFile(dir=written.parent).close()
    except OSError as error:  # a name that is too long, or a directory without permission
        raise ValueError(f"output must be a file that can be written. Received: {path!r}: {error}") from error
    if not writable:
        raise ValueError(f"output must be a file in a directory that exists. Received: {path!r}")
    if str(written) in map(os.path.realpath, inputs):
        raise ValueError(f"output must not be one of the files that are read. Received: {path!r}")


def check_folder(path: str) -> None:
    """Raises a ValueError unless a directory is new or empty, and files can be written there."""
    folder = pathlib.Path(path).absolute()
    if not is_new_or_empty(folder):
        raise ValueError(f"output must be a new or empty directory. Received: {path!r}")
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:  # a file, a link that leads nowhere, or a directory without permission
        raise ValueError(f"output must be a directory that can be written. Received: {path!r}: {error}") from error


def check_output(path: str, inputs: Iterable[str] = ()) -> None:
    """Checks that a picture can be written.

    Args:
      path: the PNG file to write.
      inputs: files that are read, which it must not replace.

    Raises:
      ValueError: if it cannot.
    """
    check_file(path, inputs)
    place = pathlib.Path(path)
    # The suffix of "samples_0.9" is not that of a format.
    if re.match(r"\.[A-Za-z]", place.suffix) and place.suffix.lower() != ".png":
        raise ValueError(f"output must be called .png: it is written as PNG. Received: {path!r}")


def print_unreadable(unreadable: dict[str, str], record: str) -> None:
    """Prints which files were skipped, the first of them with the reason, and which file names all of them."""
    print(f"  skipped, unreadable: {len(unreadable)}")
    for path, reason in list(unreadable.items())[:MOST_NAMED]:
        print(f"    {ascii(path)[1:-1]}: {ascii(reason)[1:-1]}")
    if len(unreadable) > MOST_NAMED:
        print(f"    and {len(unreadable) - MOST_NAMED} more, all of them named in {record}")


def write_picture(path: str, picture: np.ndarray) -> None:
    """Writes a PNG, or raises a ValueError."""
    from pixelvae_tf import pictures

    try:
        pictures.write_png(path, picture)
    except OSError as error:
        raise ValueError(f"output must be a file that can be written. Received: {path!r}: {error}") from error
