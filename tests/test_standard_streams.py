"""Standard streams that are closed, full, without a reader or of a narrow encoding; Keras on another backend."""

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest.mock
import warnings

import keras
import pytest
import tensorflow as tf
from commands import exit_code
from photo_folder import picture
from scripts import MAINS

import pixelvae_tf
from pixelvae_tf import console, keras_backend, progress, standard_streams
from pixelvae_tf.data import folder

HEAVY = ["tensorflow", "keras", "tensorflow_probability", "tensorflow_datasets", "sklearn", "matplotlib"]
# The module by itself: in a process that imports no TensorFlow.
START = f"import runpy, subprocess, sys; streams = runpy.run_path({standard_streams.__file__!r}); "
START += "streams['open_standard_streams'](); "


def _shell(script, redirection, **environment):
    command = f'exec "$0" "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, "-c", START + script],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_closed_streams_take_what_is_written_and_no_file_gets_their_numbers():
    script = """
print("lost"); print("lost", file=sys.stderr)
for name in ("stdout", "stderr"):
    child = subprocess.run(["sh", "-c", f"echo lost > /dev/{name}"])
    assert child.returncode == 0, name
assert open("/dev/null").fileno() > 2
sys.exit(streams["output_status"]("command") or 7)
"""
    assert _shell(script, "<&- >&- 2>&-").returncode == 7


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_without_a_reader_ends_as_in_a_shell(unbuffered):
    script = "[print('x' * 99) for _ in range(999)]; print('done', file=sys.stderr); "
    read, write = os.pipe()
    os.close(read)
    outcome = subprocess.run(
        [sys.executable, "-c", START + script + "sys.exit(streams['output_status']('command'))"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    os.close(write)
    assert (outcome.returncode, outcome.stderr) == (128 + signal.SIGPIPE, "done\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_under_standard_output_is_named():
    outcome = _shell("print('lost'); sys.exit(streams['output_status']('command'))", "> /dev/full")
    assert outcome.returncode == 1
    assert b"command: standard output must be writable. Received: [Errno 28]" in outcome.stderr
    assert b"Traceback" not in outcome.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_messages_that_cannot_be_written_do_not_stop_the_work():
    script = "print('lost', file=sys.stderr, flush=True); print('done'); sys.exit(streams['output_status']('command'))"
    outcome = _shell(script, "2> /dev/full")
    assert (outcome.returncode, outcome.stdout) == (0, b"done\n")


def test_the_stream_before_does_not_close_the_file():
    script = "import os; sys.stdout = os.fdopen(1, 'w'); print('first'); streams['open_standard_streams'](); "
    assert _shell(script + "print('second')", "").stdout == b"first\nsecond\n"


def test_any_path_can_be_printed_in_any_encoding():
    script = r"print('画像 \xe9 \udcff'); print('画像', file=sys.stderr); streams['output_status']('command')"
    outcome = _shell(script, "", PYTHONIOENCODING="cp1252")
    assert outcome.stdout == b"\\u753b\\u50cf \xe9 \\udcff\n" and outcome.stderr == b"\\u753b\\u50cf\n"


def test_noise_is_left_out_of_what_any_part_writes():
    """Errors stay, in their order, and so does what comes later."""
    script = r"""
import os
with streams["without"](r"I\d{4} |WARNING: All"):
    os.write(2, b"WARNING: All log messages\nI0000 12:00 noise\nE0000 first\n")
    subprocess.run(["sh", "-c", "echo I0001 noise >&2; echo second I0000 >&2"])
    print("third", file=sys.stderr)
os.write(2, b"I0000 fourth\n")
"""
    outcome = _shell(script, "")
    assert outcome.stderr.decode() == "E0000 first\nsecond I0000\nthird\nI0000 fourth\n"
    assert _shell(script, "2>&-").returncode == 0


def test_where_no_file_can_be_made_the_noise_is_shown(monkeypatch, tmp_path, capfd):
    """And what would be written at the end is refused at the start."""

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with standard_streams.without("noise"):
        os.write(2, b"noise\n")
    assert capfd.readouterr().err == "noise\n"
    with pytest.raises(ValueError, match=r"output must be a file that can be written.*No space left"):
        console.check_file(str(tmp_path / "samples.png"))


def test_a_command_says_on_what_it_computes_and_nothing_else(tmp_path):
    """In a process of its own: TensorFlow writes what it has to say when it is imported."""
    command = [sys.executable, "-m", "pixelvae_tf.export.model_main", "sample", f"--output={tmp_path / 'a.png'}"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["TF_ENABLE_ONEDNN_OPTS"] = "1"  # it says of some integers, as of an error, that it does not take them
    outcome = subprocess.run(
        [*command, "--pretrained=digits/gated_pixel_vae"], capture_output=True, text=True, env=environment, check=True
    )
    first, second, *others = outcome.stderr.splitlines()
    assert re.fullmatch(r"model_main: (no GPU found: CPU|\d+ GPUs?)", first) and second == "sample: 64 images"
    assert all(re.fullmatch(r"sample: 64 images: (\d+/64, )?\d+ s", line) for line in others), (
        "only where the machine is slow"
    )


def test_what_takes_long_is_announced_and_counted(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.02)
    with progress.announced("tracing") as count:
        deadline = time.monotonic() + 10
        said = capsys.readouterr().err
        count(3, 7)
        while "3/7" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
    lines = said.splitlines()
    assert lines[0] == "tracing" and re.fullmatch(r"tracing: 3/7, \d+ s", lines[-1])
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == "", "it ends with what it announces"


OUT_OF_MEMORY = [
    MemoryError("Unable to allocate 9 GiB"),
    tf.errors.ResourceExhaustedError(None, None, "Unable to allocate 9 GiB\nin a node"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["numpy", "tensorflow"])
def test_lack_of_memory_is_one_message(monkeypatch, error):
    message = "pixelvae-sample: there must be enough memory; smaller batches or fewer images take less. "
    assert exit_code(monkeypatch, "pixelvae-sample", error) == message + "Unable to allocate 9 GiB"


def test_warnings_are_printed_whatever_python_is_told(monkeypatch):
    def run(main, **options):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        sys.exit()

    monkeypatch.setattr(console.app, "run", run)
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", None)
    with pytest.warns(DeprecationWarning, match="old"), pytest.raises(SystemExit) as ended:
        warnings.simplefilter("error")
        console.run(run)
    assert not ended.value.code


def test_progress_without_standard_error_writes_nowhere(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    bar = progress.Progress(2)
    bar.update(2)
    bar.close()
    assert capsys.readouterr().out == ""


def test_a_folder_is_read_without_standard_error(monkeypatch, tmp_path):
    (tmp_path / "train").mkdir()
    picture(0).save(tmp_path / "train" / "0.png")
    monkeypatch.setattr(sys, "stderr", None)
    assert folder.load(tmp_path, "train", 8, 3)[0].shape == (1, 8, 8, 3)


def test_another_backend_of_keras_is_named_with_what_to_set(monkeypatch):
    keras_backend.check()
    check = keras_backend.check.__wrapped__  # asked once per process
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ImportError, match=r"set KERAS_BACKEND=tensorflow .*Received: the backend jax$"):
        check()
    broken = ImportError("libtensorflow_cc.so.2: failed to map segment from shared object")  # for want of memory
    monkeypatch.setattr(keras.config, "backend", unittest.mock.Mock(side_effect=broken))
    with pytest.raises(ImportError, match=r"^TensorFlow must be importable, in enough memory\. .* failed to map"):
        check()
    # A module that cannot be imported, as Keras without the package of its backend.
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match="Received: ModuleNotFoundError: import of keras halted"):
        check()


def test_what_computes_is_not_imported_on_another_backend(monkeypatch):
    def refuse():
        raise ImportError("another backend")

    monkeypatch.setattr(keras_backend, "check", refuse)
    for name in ("PixelVAE", "build", "load", "load_pretrained"):
        with pytest.raises(ImportError, match="another backend"):
            getattr(pixelvae_tf, name)
    assert pixelvae_tf.Config().model == pixelvae_tf.ModelConfig(), "configs are plain data"


def test_a_command_on_another_backend_ends_with_one_line(tmp_path):
    command = [sys.executable, "-m", "pixelvae_tf.train.main", "--config=digits/vae", f"--workdir={tmp_path}"]
    environment = {**os.environ, "KERAS_BACKEND": "none", "TF_CPP_MIN_LOG_LEVEL": "3"}
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert outcome.returncode == 1 and outcome.stdout == ""
    assert outcome.stderr.splitlines()[-1].startswith("main: Keras must run on TensorFlow: set KERAS_BACKEND=")
    assert "Traceback" not in outcome.stderr


def _waiting(pipe: int) -> int:
    """How many bytes are to be read."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def test_a_full_pipe_that_another_program_made_non_blocking_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = "from pixelvae_tf.standard_streams import open_standard_streams as open_them; open_them(); "
    code += "print('x' * 2**20, flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        with open(reader, "rb") as file:
            held, before = 0, 0
            while process.poll() is None and (not held or held > before):
                time.sleep(0.1)
                before, held = held, _waiting(reader)
            assert len(file.read()) == 2**20 + 1
        assert process.wait() == 0 and not process.stderr.read()


@pytest.mark.parametrize("path", MAINS, ids=lambda path: path.stem)
def test_what_computes_nothing_imports_no_tensorflow(path):
    """Which takes seconds; nobody waits for them to read a help text."""
    module = f"pixelvae_tf.{path.parent.name}.{path.stem}"
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_listing_presets_imports_no_tensorflow():
    code = "import runpy, sys\ntry:\n    runpy.run_module('pixelvae_tf.train.main', run_name='__main__')\n"
    code += f"finally:\n    print([name for name in {HEAVY} if name in sys.modules])"
    lines = subprocess.run([sys.executable, "-c", code, "--list"], text=True, capture_output=True, check=False)
    assert "digits/gated_pixel_vae" in lines.stdout and lines.stdout.endswith("[]\n")


def test_keras_knows_the_classes_of_a_package_that_comes_after_it():
    """As here: conftest.py imports TensorFlow, and that Keras."""
    assert {"pixelvae_tf>PixelVAE", "pixelvae_tf>GatedBlock"} <= keras.saving.get_custom_objects().keys()


@pytest.mark.parametrize(
    "imports", ["pixelvae_tf", "pixelvae_tf.layers", "pixelvae_tf.bounds", "pixelvae_tf.models.level"]
)
def test_keras_knows_the_classes_of_a_package_that_comes_before_it(imports):
    names = "'pixelvae_tf>PixelVAE', 'pixelvae_tf>GatedBlock'"
    code = f"import {imports}; import keras; print({{{names}}} <= keras.saving.get_custom_objects().keys())"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert output == "True\n"


def test_the_package_shows_what_is_public():
    assert {"PixelVAE", "ModelConfig", "Config", "build", "load", "presets", "__version__"} <= set(dir(pixelvae_tf))
    for name in pixelvae_tf.__all__:
        assert getattr(pixelvae_tf, name) is not None
    with pytest.raises(AttributeError, match=r"has no attribute 'Pixelvae'\. Its public names are Config, ModelConfig"):
        pixelvae_tf.Pixelvae  # noqa: B018
