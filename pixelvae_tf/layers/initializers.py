"""Seeds of initial weights, from a generator that belongs to the caller.

Keras draws a seed for every initializer from Python's global `random`. Seeding that would change the program's own
random numbers, and two threads that build models at the same time would draw from one sequence.
"""

import contextlib
import contextvars
import random
from typing import Any

import keras

# Without `seeded_weights`, Python's global generator, as everywhere in Keras.
_generator: contextvars.ContextVar[Any] = contextvars.ContextVar("generator", default=random)


@contextlib.contextmanager
def seeded_weights(seed: int):
    """Layers built inside start with weights that depend on `seed` alone, in this thread."""
    token = _generator.set(random.Random(seed))
    try:
        yield
    finally:
        _generator.reset(token)


def random_normal(stddev: float) -> keras.initializers.Initializer:
    """A normal initializer whose seed comes from the current generator."""
    # The range in which Keras draws its own seeds.
    return keras.initializers.RandomNormal(stddev=stddev, seed=_generator.get().randint(1, 10**9))
