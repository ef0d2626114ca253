"""What training minimises: the ELBO with warm-ups, free nats and a floor under the priors.

Legend: B batch, L levels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from pixelvae_tf import fields
from pixelvae_tf.bounds.terms import Elbo


def by_level(values: Sequence | float, num_levels: int) -> list:
    """A setting of each level: level 1 first, the last one for all levels above it too.

    Args:
      values: one or more settings, or a number for all levels.
      num_levels: L.

    Returns:
      L settings.
    """
    values = _as_list(values)
    return [values[min(level, len(values) - 1)] for level in range(num_levels)]


def _as_list(values: Sequence | float) -> list:
    return list(values) if isinstance(values, Sequence) else [values]


_OF_LEVELS: dict[str, Any] = {"kl_warmup_steps": list[fields.Count], "free_nats": list[fields.Nats]}


class Objective(NamedTuple):
    """What training minimises; with the defaults, the negative ELBO.

    Settings of a level are a number for all levels, or one per level, level 1 first; the last one holds for all
    levels above it.

    Attributes:
      kl_warmup_steps: of a level. The weight of its KL rises linearly from 0 to 1. A longer rise for upper levels lets
        a level come to life before the one above has to explain it.
      free_nats: of a level. Its KL below this, on the mean over the batch, is not penalised.
      free_nats_steps: the step from which on there are no free nats; 0 for none.
      prior_floor_steps: a floor under the sigmas of priors p(z_l | z_{l+1}) falls linearly from 1 to 0.

    Examples:
      >>> objective = pixelvae_tf.bounds.Objective(kl_warmup_steps=1000, free_nats=[2.0])
      >>> objective.validate(num_levels=1)
    """

    kl_warmup_steps: Sequence[int] | int = 0
    free_nats: Sequence[float] | float = 0.0
    free_nats_steps: int = 0
    prior_floor_steps: int = 0

    def validate(self, num_levels: int, prefix: str = "") -> None:
        """Raises a ValueError that names the first setting that makes no sense for a model of L levels.

        Args:
          num_levels: L.
          prefix: of the settings' names in the message.
        """
        for name, value in self._asdict().items():
            settings = _as_list(value)
            # A model without levels leaves them unused.
            if not settings or len(settings) > max(num_levels, 1):
                raise ValueError(
                    f"{prefix}{name} must be one number per level or one for all, and the model has {num_levels} "
                    f"level(s). Received: {value}"
                )
            if name in _OF_LEVELS:
                fields.check(_OF_LEVELS[name], settings, f"{prefix}{name}")
            else:
                fields.check(fields.Count, value, f"{prefix}{name}")
        if self.prior_floor_steps and num_levels < 2:
            raise ValueError(
                f"{prefix}prior_floor_steps must be 0 for a model of fewer than two levels, which has no prior that is "
                f"learnt. Received: {self.prior_floor_steps}"
            )

    @property
    def warmup_steps(self) -> int:
        """The step from which on the bound itself is minimised, except for free nats that stay."""
        return max(*_as_list(self.kl_warmup_steps), self.free_nats_steps, self.prior_floor_steps)

    def kl_weights(self, step: tf.Tensor, num_levels: int) -> tf.Tensor:
        """The weights [L] of the levels' KL at a step."""
        rises = [_rise(step, steps) for steps in by_level(self.kl_warmup_steps, num_levels)]
        return tf.convert_to_tensor(rises, tf.float32)  # of no levels, too

    def allowances(self, step: tf.Tensor, num_levels: int) -> tf.Tensor:
        """The free nats [L] of the levels at a step."""
        nats = tf.constant(by_level(self.free_nats, num_levels), tf.float32)
        return tf.where(tf.cast(step, tf.int64) < self.free_nats_steps, nats, 0.0) if self.free_nats_steps else nats

    def prior_floor(self, step: tf.Tensor) -> tf.Tensor:
        """The floor under the priors' sigmas at a step."""
        return 1.0 - _rise(step, self.prior_floor_steps)

    def loss(
        self, elbo: Elbo, step: tf.Tensor, batch_size: int | tf.Tensor, all_reduce: Callable = lambda x: x
    ) -> "Loss":
        """What is minimised.

        Args:
          elbo: of a batch, or of one replica's share of it.
          step: scalar.
          batch_size: images in the whole batch.
          all_reduce: the sum of a tensor over all replicas.

        Returns:
          The loss and its parts.
        """
        num_levels = elbo.kl_nats.shape[-1]
        own = tf.reduce_sum(elbo.reconstruction_nats) / batch_size, tf.reduce_sum(elbo.kl_nats, axis=0) / batch_size
        whole = [all_reduce(tf.stop_gradient(part)) for part in own]
        allowances, weights = self.allowances(step, num_levels), self.kl_weights(step, num_levels)
        # Free nats (Kingma et al. 2016, appendix C.8): the maximum is taken of the mean over the whole batch.
        penalised = tf.cast(whole[1] > allowances, tf.float32)
        own_loss = own[0] + tf.reduce_sum(weights * penalised * own[1])
        loss = whole[0] + tf.reduce_sum(weights * tf.maximum(whole[1], allowances))
        return Loss(own_loss + tf.stop_gradient(loss - own_loss), *whole)


class Loss(NamedTuple):
    """A loss and its parts, means over the whole batch.

    Attributes:
      nats: scalar. Its gradient is that of the replica's own share: the sum over replicas is that of the batch.
      reconstruction_nats: scalar.
      kl_nats: [L].
    """

    nats: tf.Tensor
    reconstruction_nats: tf.Tensor
    kl_nats: tf.Tensor


def _rise(step: tf.Tensor, steps: int) -> tf.Tensor:
    """From 0 to 1 over `steps`; 1 where there are none."""
    return tf.minimum(tf.cast(step, tf.float32) / steps, 1.0) if steps else tf.ones([])
