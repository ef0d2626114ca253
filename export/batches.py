"""Calls of a model with more rows than it takes at once."""

from collections.abc import Callable

import numpy as np

from pixelvae_tf.export import client


def predict_in_batches(
    model: client.Model,
    name: str,
    inputs: client.Arrays,
    batch_size: int,
    count: Callable[[int, int], None] = lambda done, total: None,
) -> client.Arrays:
    """`client.Model.predict` of any number of rows.

    Args:
      model: what is called.
      name, inputs: as for `predict`, of at least one row.
      batch_size: rows of a call.
      count: is told how many of all rows are done.

    Returns:
      The outputs of all rows by name.

    Raises:
      ServerError: as `predict`.
    """
    total, parts = len(next(iter(inputs.values()))), []
    for start in range(0, total, batch_size):
        parts.append(model.predict(name, {key: values[start : start + batch_size] for key, values in inputs.items()}))
        count(min(start + batch_size, total), total)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
