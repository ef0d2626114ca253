"""Several processes that train one model: what they are told by TF_CONFIG, and what they tell each other.

TF_CONFIG is TensorFlow's own convention, one JSON text in each worker's environment:

    {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}

Worker 0 is the chief: it alone writes checkpoints, logs and pictures. All of them read the same workdir.
"""

import contextlib
import json
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def multi_worker_strategy() -> tf.distribute.Strategy:
    """Connects this worker to the others; waits for them.

    Returns:
      A MultiWorkerMirroredStrategy. It must be made before anything else is asked of TensorFlow.

    Raises:
      ValueError: if TF_CONFIG does not say which worker of which this is.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(text)
        workers, task = found["cluster"]["worker"], found["task"]
        if task["type"] != "worker" or not 0 <= task["index"] < len(workers) or set(found["cluster"]) != {"worker"}:
            raise ValueError(text)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "strategy multi_worker needs TF_CONFIG in the environment, such as "
            '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}; '
            f"pixelvae-launch sets it. Received: TF_CONFIG={text!r}"
        ) from error
    return tf.distribute.MultiWorkerMirroredStrategy()


class Workers:
    """The processes of a strategy, one or several. What a method does, all of them have to do together.

    Args:
      strategy: whose.

    Attributes:
      is_chief: whether this process writes what the run leaves behind.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.is_chief = strategy.extended.should_checkpoint
        self._alone = strategy.cluster_resolver is None

        # A function of our own: strategy.gather is traced at every call.
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
        """What the worker of each replica says, int64 [replicas, N]."""
        said = self.strategy.experimental_distribute_values_from_function(
            lambda _: tf.constant([list(numbers)], tf.int64)
        )
        return self.concatenate({"": said})[""]

    def check_equal(self, numbers: dict[str, int]) -> None:
        """Checks that all workers go on with the same run.

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
        """Before all workers end: waits until each has heard what was said last. One that is gone says it no more."""
        if not self._alone:
            with contextlib.suppress(tf.errors.OpError):  # The others have heard it, and are gone.
                self.exchange([0])

    def copy_from_chief(self, variables: Sequence[tf.Variable]) -> None:
        """Gives all workers the chief's values: what each computed for itself may differ in the last bit."""
        if self._alone:
            return
        for variable, value in zip(variables, self._of_first(list(variables)), strict=True):
            variable.assign(self.strategy.experimental_local_results(value)[0])
