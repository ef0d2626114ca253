"""Schedules of the learning rate and of the decay of the weight average."""

import math

import keras
import tensorflow as tf

from pixelvae_tf.config import TrainConfig


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then the decay that `TrainConfig.learning_rate_decay` names."""

    def __init__(self, config: TrainConfig):
        self.config = config

    def __call__(self, step):
        """The learning rate of a step."""
        config = self.config
        step = tf.cast(step, tf.float32)
        rate = tf.constant(config.learning_rate, tf.float32)
        progress = tf.minimum(step / config.steps, 1.0)
        if config.learning_rate_decay == "cosine":
            rate = rate * 0.5 * (1.0 + tf.cos(math.pi * progress))
        elif config.learning_rate_decay == "drop":
            rate = tf.where(progress < config.learning_rate_drop_at, rate, config.learning_rate_drop_factor * rate)
        elif config.learning_rate_decay == "exponential":
            rate = rate * tf.pow(0.999995, step)
        if config.learning_rate_warmup_steps:
            rate = rate * tf.minimum((step + 1.0) / config.learning_rate_warmup_steps, 1.0)
        return rate


def average_decay(config: TrainConfig, step: tf.Tensor) -> tf.Tensor:
    """The decay of the weight average; shorter at first, or the random start would linger."""
    step = tf.cast(step, tf.float32)
    return tf.minimum(config.average_decay, (1.0 + step) / (10.0 + step))
