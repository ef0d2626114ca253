"""The machine that a benchmark runs on: what to print beside its numbers, and both settings of oneDNN."""

import os
import platform
import subprocess
import sys

from pixelvae_tf import onednn


def _processor() -> str:
    """Its name and number of cores, and its vector instructions, as far as the system says them."""
    path = onednn.CPUINFO
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    vectors = sorted(name for name in onednn.instructions() if name.startswith(("avx", "amx", "fma")))
    return f"{(names or [platform.processor()])[0]}, {os.cpu_count()} cores; {' '.join(vectors)}"


def describe() -> str:
    """What computes here: GPUs, if there are, the processor, and whether TensorFlow uses oneDNN. Imports TensorFlow."""
    import tensorflow as tf
    from tensorflow.python.util import _pywrap_util_port

    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    names = [details.get("device_name", "GPU") for details in gpus]
    state = "on" if _pywrap_util_port.IsMklEnabled() else "off"
    return "; ".join([*names, _processor(), f"oneDNN {state}", f"TensorFlow {tf.__version__}"])


def run_with_both_settings() -> bool:
    """Runs this very command once with oneDNN and once without, unless the environment says which.

    Returns:
      Whether it did. On a GPU, where oneDNN does nothing, it does not.
    """
    import tensorflow as tf

    if onednn.VARIABLE in os.environ or tf.config.list_physical_devices("GPU"):
        return False
    for setting in ("1", "0"):
        print(f"\n{onednn.VARIABLE}={setting}", flush=True)
        subprocess.run([sys.executable, *sys.argv], env={**os.environ, onednn.VARIABLE: setting}, check=True)
    return True
