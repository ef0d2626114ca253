"""oneDNN: on where a command trains or evaluates, unless TensorFlow or the user decides."""

import os
import platform
import subprocess
import sys

import pytest
from tensorflow.python.util import _pywrap_util_port

from pixelvae_tf import onednn

OLD, NEW = "flags : fpu avx avx2 avx512f", "flags\t\t: fpu avx2 avx512_vnni"
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="elsewhere TensorFlow's choice is left alone"
)


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Sets what the system says of the processor."""
    monkeypatch.delenv(onednn.VARIABLE, raising=False)
    monkeypatch.setattr(onednn, "CPUINFO", tmp_path / "cpuinfo")
    onednn.advise.cache_clear()
    return lambda flags: onednn.CPUINFO.write_text(f"processor : 0\n{flags}\n\nprocessor : 1\n{flags}\n")


@pytest.mark.skipif(onednn.VARIABLE in os.environ, reason="the environment decides")
def test_it_is_known_what_tensorflow_does_here():
    assert onednn.left_off() != _pywrap_util_port.IsMklEnabled()


@pytest.mark.parametrize("flags, left_off", [(OLD, True), (NEW, False), ("model name : old", True)])
def test_tensorflow_leaves_it_off_without_neural_instructions(processor, monkeypatch, flags, left_off):
    processor(flags)
    assert onednn.left_off() == left_off
    for value in ("0", "1"):
        monkeypatch.setenv(onednn.VARIABLE, value)
        assert not onednn.left_off(), "the user has decided"


def test_the_advice_comes_once(processor, caplog):
    processor(OLD)
    onednn.advise()
    onednn.advise()
    (record,) = caplog.records
    assert "TF_ENABLE_ONEDNN_OPTS=1, set before TensorFlow is imported" in record.message


def test_after_tensorflow_nothing_is_set(processor):
    processor(OLD)
    onednn.switch_on()
    assert onednn.VARIABLE not in os.environ


COMMANDS = {"train.main": ["--config=digits/vae"], "train.evaluate_main": ["--verbosity=0"]}
# Stands for TensorFlow, or Keras, which imports it; says what it finds when it is imported.
STAND_IN = f"import os\nprint(os.environ.get({onednn.VARIABLE!r}), flush=True)\nos._exit(0)\n"
CODE = """
import pathlib
from pixelvae_tf import onednn
from pixelvae_tf.{module} import run
onednn.CPUINFO = pathlib.Path({cpuinfo!r})
run()
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_switch_it_on_before_tensorflow_is_imported(processor, module, tmp_path):
    processor(OLD)
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(STAND_IN)
    code = CODE.format(module=module, cpuinfo=str(onednn.CPUINFO))
    outcome = subprocess.run(
        [sys.executable, "-c", code, f"--workdir={tmp_path}", *COMMANDS[module]],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert outcome.stdout == "1\n", outcome.stderr
    assert outcome.stderr.count("oneDNN is on, which is faster here; TF_ENABLE_ONEDNN_OPTS=0 leaves it off") == 1
