"""The state of a run and its training step, the same for every strategy.

Inside `strategy.run` a replica sees its share of the batch. Its loss is a sum over that share divided by
the *global* batch size, because gradients are summed over replicas.
"""

from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from pixelvae_tf import adam, bounds, data, layers
from pixelvae_tf.config import Config, TrainConfig
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.runs import build, weights_of
from pixelvae_tf.train import schedules


class TrainState:
    """The state in a checkpoint: weights, their moving average, optimizer, step, best bound.

    Create it inside `strategy.scope()`.
    """

    def __init__(self, config: Config):
        self.model = build(config)
        self.average = build(config)
        self.optimizer = keras.optimizers.Adam(schedules.LearningRate(config.train))
        self.optimizer.build(self.model.trainable_variables)
        self.parts = _parts(self.model)
        self.step = tf.Variable(0, dtype=tf.int64, name="step")
        self.best_bound_nats = tf.Variable(float("inf"), dtype=tf.float64, name="best_bound_nats")
        self._all_finite = tf.function(self._compute_all_finite, autograph=False)

    def start_from(self, image_set: data.ImageSet) -> None:
        """Starts the weights and their average from the training data; see `PixelVAE.start_from`."""
        images, labels = image_set.some()
        self.model.start_from(images, labels if self.model.config.num_classes else None)
        self.average.set_weights(self.model.get_weights())

    def start_with(self, trained: dict[str, tf.Variable]) -> None:
        """Starts the weights of these names, and their average, with those of another model."""
        for weights in (weights_of(self.model), weights_of(self.average)):
            for name, weight in trained.items():
                weights[name].assign(tf.cast(weight, weights[name].dtype))

    def checkpoint(self) -> tf.train.Checkpoint:
        """Tracks everything that a resumed run needs."""
        return tf.train.Checkpoint(
            model=weights_of(self.model),
            average=weights_of(self.average),
            optimizer=self.optimizer,
            step=self.step,
            best_bound_nats=self.best_bound_nats,
        )

    def best_checkpoint(self) -> tf.train.Checkpoint:
        """Tracks what is kept of the best weights."""
        return tf.train.Checkpoint(
            average=weights_of(self.average), step=self.step, best_bound_nats=self.best_bound_nats
        )

    def is_finite(self) -> bool:
        """Whether all weights, and therefore their average, are finite."""
        return bool(self._all_finite())

    def _compute_all_finite(self) -> tf.Tensor:
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(x.value)) for x in self.model.variables])


def _parts(model: PixelVAE) -> dict[str, list[int]]:
    """The indices of each part's weights among the model's trainable variables."""
    owners = {"pixels": [model.network]}
    for number, level in enumerate(model.levels, start=1):
        owners[f"encoder_level_{number}"] = [level.encoder, level.posterior_head]
        owners[f"decoder_level_{number}"] = [level.decoder] if level.decoder else []
        owners[f"prior_level_{number}"] = [level.prior_network] if level.prior_network else []
    place = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
    return {
        name: [place[id(variable)] for layer in some for variable in layer.trainable_variables]
        for name, some in owners.items()
        if some
    }


class Totals(NamedTuple):
    """Sums over the steps of a loop, and its first bad step.

    Attributes:
      loss_nats, reconstruction_nats, gradient_norm, clipped: scalars.
      kl_nats: [L].
      gradient_norms: of each part of `TrainState.parts`, scalars by name.
      bad_step: int64, the first step with a part that is not finite, or -1.
      bad_parts: bool [3], which of `PARTS` were not finite then.
    """

    loss_nats: tf.Tensor
    reconstruction_nats: tf.Tensor
    kl_nats: tf.Tensor
    gradient_norm: tf.Tensor
    gradient_norms: dict[str, tf.Tensor]
    clipped: tf.Tensor
    bad_step: tf.Tensor
    bad_parts: tf.Tensor


PARTS = ("reconstruction", "kl", "gradient")


def bad_parts(reconstruction: tf.Tensor, kl: tf.Tensor, gradient_norm: tf.Tensor) -> tf.Tensor:
    """Which of `PARTS` are not finite, bool [3]; of scalars and the KL of each level, [L]."""
    return ~tf.stack([tf.math.is_finite(x) for x in (reconstruction, tf.reduce_sum(kl), gradient_norm)])


def _train_step(state: TrainState, config: Config, batch: dict[str, tf.Tensor]) -> tuple:
    """A step, in a replica: (loss, its parts, gradient norms) of the global batch, and its gradients."""
    replica = tf.distribute.get_replica_context()
    model, step, train, objective = state.model, state.step, config.train, config.objective
    dropout_seed = layers.dropout_seed(train.seed, step, replica.replica_id_in_sync_group)
    # The gradient is compiled too. Communication between replicas stays outside (except batch normalisation).
    elbo = tf.function(bounds.elbo, autograph=False, jit_compile=True) if train.jit_compile else bounds.elbo

    def global_sum(x):
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, x)

    with tf.GradientTape() as tape, layers.rematerialization(train.rematerialize):
        parts = elbo(
            model,
            batch["images"],
            batch["seeds"],
            labels=batch["labels"] if model.config.num_classes else None,
            dropout_seed=dropout_seed,
            prior_floor=objective.prior_floor(step),
        )
        loss = objective.loss(parts, step, train.batch_size, global_sum)
    variables = [variable.value for variable in model.trainable_variables]
    gradients = global_sum(tape.gradient(loss.nats, variables))
    norms = {name: tf.linalg.global_norm([gradients[i] for i in places]) for name, places in state.parts.items()}
    norm = tf.linalg.global_norm(list(norms.values()))
    if train.clip_norm:
        gradients, _ = tf.clip_by_global_norm(gradients, train.clip_norm, use_norm=norm)
    norm, norms = tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), (norm, norms))
    return (*loss, norm, norms), gradients


def _update_weights(strategy: tf.distribute.Strategy, state: TrainState, gradients: list) -> None:
    """Adam's step on every replica's own copy, with gradients that every replica holds whole.

    Keras' `apply` would sum them over the replicas once more.
    """
    optimizer = state.optimizer
    # All weights have the dtype of the policy's variables.
    numbers = adam.scalars(optimizer, optimizer.learning_rate, state.model.trainable_variables[0].dtype)
    of_variables = (state.model.trainable_variables, optimizer._momentums, optimizer._velocities)
    for gradient, weights, *moments in zip(gradients, *of_variables, strict=True):
        arguments = (gradient, *(moment.value for moment in moments), numbers)
        strategy.extended.update(weights.value, adam.move, args=arguments, group=False)
    optimizer.iterations.assign_add(1)


def _update_average(strategy: tf.distribute.Strategy, state: TrainState, config: TrainConfig) -> None:
    """Moves the averaged weights towards the weights, on every replica's own copy."""
    rate = 1.0 - schedules.average_decay(config, state.step)

    def move(average, weights):
        average.assign_add(tf.cast(rate, average.dtype) * (weights - average))

    for average, weights in zip(state.average.variables, state.model.variables, strict=True):
        strategy.extended.update(average.value, move, args=(weights.value,), group=False)


def make_training_loop(strategy: tf.distribute.Strategy, state: TrainState, config: Config):
    """The inner loop of a run: a graph function (iterator, num_steps int32) -> Totals."""

    def one_step(iterator: Iterator, totals: Totals) -> Totals:
        outcome, gradients = strategy.run(lambda batch: _train_step(state, config, batch), args=(next(iterator),))
        # All replicas return the same global numbers.
        loss, reconstruction, kl, norm = (strategy.experimental_local_results(x)[0] for x in outcome[:4])
        norms = {name: strategy.experimental_local_results(x)[0] for name, x in outcome[4].items()}
        bad = bad_parts(reconstruction, kl, norm)
        first = (totals.bad_step < 0) & tf.reduce_any(bad)
        clip_norm = config.train.clip_norm
        clipped = tf.cast(norm > clip_norm, tf.float32) if clip_norm else tf.zeros([])
        totals = Totals(
            totals.loss_nats + loss,
            totals.reconstruction_nats + reconstruction,
            totals.kl_nats + kl,
            totals.gradient_norm + norm,
            {name: total + norms[name] for name, total in totals.gradient_norms.items()},
            totals.clipped + clipped,
            tf.where(first, state.step, totals.bad_step),
            tf.where(first, bad, totals.bad_parts),
        )
        _update_weights(strategy, state, gradients)
        state.step.assign_add(1)
        _update_average(strategy, state, config.train)
        return totals

    # Without AutoGraph, which would convert the whole model at every start and is not needed.
    @tf.function(autograph=False)
    def loop(iterator, num_steps):
        zero = tf.zeros([])
        totals = Totals(
            loss_nats=zero,
            reconstruction_nats=zero,
            kl_nats=tf.zeros([state.model.num_levels]),
            gradient_norm=zero,
            gradient_norms={name: zero for name in state.parts},
            clipped=zero,
            bad_step=tf.constant(-1, tf.int64),
            bad_parts=tf.fill([3], False),
        )
        _, totals = tf.while_loop(
            lambda done, totals: done < num_steps,
            lambda done, totals: (done + 1, one_step(iterator, totals)),
            (tf.constant(0), totals),
        )
        return totals

    return loop
