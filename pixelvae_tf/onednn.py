"""oneDNN, TensorFlow's other kernels for CPUs: commands that train or evaluate switch it on where TensorFlow does not.

TensorFlow decides once a process (`IsMklEnabled` in its core/util/port.cc): as TF_ENABLE_ONEDNN_OPTS says, which it
reads when it is imported; else, on Linux, oneDNN is on where the processor has one of `NEURAL_INSTRUCTIONS`, and off
elsewhere. A training step takes half to two thirds of the time with it, with those instructions and without. A single
request does not gain, and on some processors loses: what answers requests leaves the choice to TensorFlow
(docs/speed.md).
"""

import functools
import logging
import os
import pathlib
import platform
import sys

LOGGER = logging.getLogger("pixelvae_tf")
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
NEURAL_INSTRUCTIONS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
CPUINFO = pathlib.Path("/proc/cpuinfo")


def instructions() -> set[str]:
    """The processor's instruction sets, as Linux names them; empty elsewhere."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def left_off() -> bool:
    """Whether TensorFlow leaves oneDNN off on this machine, nobody having asked for that."""
    measured = sys.platform == "linux" and platform.machine() == "x86_64"
    return measured and VARIABLE not in os.environ and not NEURAL_INSTRUCTIONS & instructions()


def switch_on() -> None:
    """Switches oneDNN on where TensorFlow would leave it off. Once TensorFlow is imported it does nothing."""
    if left_off() and "tensorflow" not in sys.modules:
        os.environ[VARIABLE] = "1"
        LOGGER.info(f"oneDNN is on, which is faster here; {VARIABLE}=0 leaves it off")


@functools.cache
def advise() -> None:
    """Says once a process that training would be faster with oneDNN, where it is off."""
    if left_off():
        LOGGER.warning(f"Training on this processor is faster with {VARIABLE}=1, set before TensorFlow is imported")
