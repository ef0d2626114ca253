"""Where a run computes: on one device, on several of one machine, or in several processes."""

import functools
import os

import tensorflow as tf

from pixelvae_tf.train.workers import multi_worker_strategy

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")


def split_cpu(number: int) -> None:
    """Splits the CPU into several devices, before TensorFlow initialises it.

    Raises:
      ValueError: on a machine with GPUs, which would be mirrored over instead.
    """
    if gpus := tf.config.list_physical_devices("GPU"):
        raise ValueError(f"virtual_cpus must be 1 where there are GPUs. Received: {number}, with {len(gpus)} GPUs")
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    if number >= (os.cpu_count() or 1):
        # One thread per operation, which waits for no other: one core per device. (They share one pool of threads.)
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(number)


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One for all trainings of a process: each new one would give its collectives the numbers of the one before."""
    return tf.distribute.MirroredStrategy(list(devices))


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy with a name: "one_device", "mirrored", "multi_worker", or "auto" (mirrored with several GPUs).

    Raises:
      ValueError: for another name; for "multi_worker", if TF_CONFIG does not describe the workers.
    """
    if name == "multi_worker":
        return multi_worker_strategy()
    gpus, cpus = tf.config.list_logical_devices("GPU"), tf.config.list_logical_devices("CPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "mirrored":
        return _mirrored(tuple(device.name for device in gpus or cpus))
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy((gpus or cpus)[0].name)
    raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}")
