"""Several processes that train one model: how TF_CONFIG describes them, and how they communicate.

TF_CONFIG is TensorFlow's own convention, one JSON text in each worker's environment:

    {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}

Worker 0 is the chief: it alone writes checkpoints, logs and pictures. All of them read the same workdir.
"""

import contextlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def multi_worker_strategy() -> tf.distribute.Strategy:
    """Connects this worker to the others and waits for them.

    Returns:
      A MultiWorkerMirroredStrategy. Create it before any other TensorFlow operation.

    Raises:
      ValueError: if TF_CONFIG does not say which worker of which this is.
    """
    check_cluster(os.environ.get("TF_CONFIG", ""))
    return tf.distribute.MultiWorkerMirroredStrategy()


def check_cluster(text: str) -> None:
    """Raises a ValueError, with the reason, unless a TF_CONFIG says which worker of which this is."""
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError("it must be a JSON object")
        cluster, task = config["cluster"], config["task"]
        if not isinstance(cluster, dict) or not isinstance(task, dict):
            raise ValueError("cluster and task must be JSON objects")
        if set(cluster) != {"worker"} or task["type"] != "worker":
            raise ValueError("cluster and task must be of workers alone")
        workers, index = cluster["worker"], task["index"]
        if not isinstance(workers, list) or not workers:
            raise ValueError("worker must be a list of addresses")
        places = [_place(address) for address in workers]
        if len(set(places)) < len(places):
            raise ValueError("every worker must have an address of its own")
        if type(index) is not int or not 0 <= index < len(workers):
            raise ValueError(f"index must be an integer in 0..{len(workers) - 1}")
        if config.get("rpc_layer", "grpc") != "grpc":
            raise ValueError("rpc_layer must be grpc")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            "strategy multi_worker needs TF_CONFIG in the environment, such as "
            '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}; '
            f"pixelvae-launch sets it. Received: TF_CONFIG={text!r}: {_reason(error)}"
        ) from error


def _place(address) -> tuple[str, int]:
    """Host and port of an address, the same for all names of this machine, since a server listens on all of them."""
    parts = re.fullmatch(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", str(address))
    if parts is None or not 0 < int(parts[2]) < 2**16:
        raise ValueError(f"every worker must be host:port, with a port in 1..{2**16 - 1}: {address!r}")
    host = parts[1].strip("[]").rstrip(".").lower()
    with contextlib.suppress(OSError, ValueError):  # a name
        number = ipaddress.ip_address(host if ":" in host else socket.inet_aton(host))  # which may be short, as 127.1
        number = getattr(number, "ipv4_mapped", None) or number
        host = "localhost" if number.is_loopback or number.is_unspecified else str(number)
    return host, int(parts[2])


def _reason(error: Exception) -> str:
    """The reason why a TF_CONFIG is refused; a KeyError contains only the missing name."""
    return f"{error.args[0]} must be given" if isinstance(error, KeyError) else str(error)


class Workers:
    """The processes of a strategy, one or several. All of them must call its methods together.

    Args:
      strategy: whose.

    Attributes:
      is_chief: whether this process writes what the run leaves behind.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.is_chief = strategy.extended.should_checkpoint
        self._alone = strategy.cluster_resolver is None

        # A tf.function of our own: strategy.gather is traced at every call.
        @tf.function(autograph=False)
        def all_gather(values):
            def replica(mine):
                mine = tf.nest.map_structure(tf.identity, mine)  # An argument has no device yet.
                return tf.distribute.get_replica_context().all_gather(mine, axis=0)

            return strategy.run(replica, (values,))

        @tf.function(autograph=False)
        def of_first(values):
            def replica(mine):
                context = tf.distribute.get_replica_context()
                first = context.replica_id_in_sync_group == 0
                mine = [tf.where(first, value, tf.zeros_like(value)) for value in mine]
                return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

            return strategy.run(replica, (values,))

        self._all_gather, self._of_first = all_gather, of_first

    def concatenate(self, values: dict[str, tf.distribute.DistributedValues]) -> dict[str, np.ndarray]:
        """The values [B, ...] of all replicas of all workers, in the replicas' order."""
        local = self.strategy.experimental_local_results
        if self._alone:
            return {name: np.concatenate([x.numpy() for x in local(value)]) for name, value in values.items()}
        return {name: local(value)[0].numpy() for name, value in self._all_gather(values).items()}

    def exchange(self, numbers: Sequence[int]) -> np.ndarray:
        """The numbers of every replica's worker, int64 [replicas, N]."""
        values = self.strategy.experimental_distribute_values_from_function(
            lambda _: tf.constant([list(numbers)], tf.int64)
        )
        return self.concatenate({"": values})[""]

    def check_equal(self, numbers: dict[str, int]) -> None:
        """Checks that all workers have the same run.

        Raises:
          ValueError: if one of the numbers is not the same everywhere.
        """
        for name, column in zip(numbers, self.exchange(list(numbers.values())).T, strict=True):
            if len(set(column)) > 1:
                self.part()
                raise ValueError(
                    "all workers must have the same workdir, on a file system that they share, the same config and "
                    f"the same images. Received: {name} is {', '.join(map(str, column))} on the workers' replicas"
                )

    def part(self) -> None:
        """Waits, before workers exit, until each has received the last exchange; those that are gone are ignored."""
        if not self._alone:
            with contextlib.suppress(tf.errors.OpError):  # the others have received it and exited
                self.exchange([0])

    def copy_from_chief(self, variables: Sequence[tf.Variable]) -> None:
        """Copies the chief's values to all workers: their own may differ in the last bit."""
        if self._alone:
            return
        for variable, value in zip(variables, self._of_first(list(variables)), strict=True):
            variable.assign(self.strategy.experimental_local_results(value)[0])
