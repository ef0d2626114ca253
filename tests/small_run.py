"""A run that takes seconds."""

import keras
import numpy as np
import tensorflow as tf

from pixelvae_tf import data, presets
from pixelvae_tf.train import steps

CPUS = ["CPU:0", "CPU:1"]  # made by conftest.py


def largest_difference(first, second):
    """The largest absolute difference of two lists of weights."""
    return max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))


def small_config(preset="digits/gated_pixel_vae", **train):
    """A run on digits that takes seconds."""
    config = presets.get(preset)
    small = {"filters": 8, "embedding_dim": 2, "output_filters": 8, "num_layers": 1, "num_scales": 2}
    for name, value in small.items():
        if hasattr(config.model.pixels, name):
            setattr(config.model.pixels, name, value)
    for level in config.model.levels:
        level.filters, level.dim = (8,), 4
    options = {"steps": 8, "batch_size": 16, "steps_per_loop": 2, "log_every": 2, "evaluate_every": 4}
    for name, value in {**options, "checkpoint_every": 4, "average_decay": 0.9, **train}.items():
        by_level = isinstance(getattr(config.train, name), tuple) and not isinstance(value, tuple)
        setattr(config.train, name, (value,) if by_level else value)
    return config


def mirrored_config(**train):
    """The one model that tests train on several replicas of this process: its collectives' shapes must not change.

    TensorFlow keeps those of the first ones for as long as a process lives. Labels are part of it.
    """
    config = small_config("digits/vae", **train)
    config.model.num_classes = 10
    return config


def steady_adam(rate=1e-3):
    """An Adam whose steps are about `rate` times the gradient, to compare runs that round otherwise.

    With the usual epsilon a gradient next to zero moves its weight as far as any other, in the direction of a rounding.
    """
    # The first steps are 0.03 times what an average over many would be.
    return keras.optimizers.Adam(3e4 * rate, epsilon=1e3)


def run_steps(config, strategy, number, optimizer=None):
    """Trains from the data's start, without a trainer; returns the weights, their average and the totals."""
    images = data.load(config.data, "train")
    with strategy.scope():
        state = steps.TrainState(config)
        if optimizer is not None:
            state.optimizer = optimizer()
            state.optimizer.build(state.model.trainable_variables)
    state.start_from(images)
    dataset = strategy.distribute_datasets_from_function(
        lambda context: data.training_batches(images, config.train.batch_size, 0, input_context=context)
    )
    totals = steps.make_training_loop(strategy, state, config)(iter(dataset), tf.constant(number))
    return state.model.get_weights(), state.average.get_weights(), totals
