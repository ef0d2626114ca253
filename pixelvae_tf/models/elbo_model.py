"""A latent variable model as an ordinary Keras model: compile, fit, evaluate, predict on images.

Legend: B batch, H height, W width, C channels, L levels.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from pixelvae_tf import adam, bounds, layers, noise, onednn, pixels
from pixelvae_tf.fields import check
from pixelvae_tf.layers.configured import Freezable, freeze, frozen_parts
from pixelvae_tf.models.config import ModelConfig

NO_WEIGHTS = "{} must be None: the bound is a plain mean over images"


class ElboModel(Freezable, keras.Model):
    """What Keras' own training needs of a model that has posterior, prior and likelihood; on one device.

    `pixelvae_tf.train` adds many devices, checkpoints, a weight average and the rest of a long run.

    Attributes:
      config: the model's; says what an image is.
    """

    config: ModelConfig
    built: bool

    def track_parts(self, num_levels: int) -> None:
        """Makes what `fit` and `evaluate` report beside the loss. Call it before the model is built."""
        names = ["reconstruction_nats", *(f"kl_nats_level_{level + 1}" for level in range(num_levels))]
        self._means = [keras.metrics.Mean(name=name) for name in names]

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        *,
        seed: int = 0,
        kl_warmup_steps: Sequence[int] | int = 0,
        free_nats: Sequence[float] | float = 0.0,
        free_nats_steps: int = 0,
        prior_floor_steps: int = 0,
        **options,
    ) -> None:
        """Prepares `fit` on images. The loss is that of `train/`: with no warm-up and no free nats, the negative ELBO.

        Args:
          optimizer: Keras' own or a name; "adam" is Keras' with a step of fewer operations.
          seed: of the noise and the dropout. Weights come from `pixelvae_tf.build`, the order of the images from Keras.
          kl_warmup_steps, free_nats, free_nats_steps, prior_floor_steps: of `bounds.Objective`, in `fit`; `evaluate`
            gives the negative ELBO.
          **options: `run_eagerly`, `steps_per_execution` or `jit_compile` of `keras.Model.compile`; the last is off
            where it is not given (Keras' "auto" is XLA on every GPU), since XLA drops the checks of the images' values.

        Raises:
          ValueError: for any other option of Keras' (the loss and its metrics are the model's), for a value
            that makes no sense, or under a strategy of several replicas.
        """
        unknown = sorted(set(options) - {"run_eagerly", "steps_per_execution", "jit_compile"})
        if unknown:
            raise ValueError(
                f"compile takes optimizer, seed, {', '.join(bounds.Objective._fields)}, run_eagerly, "
                "steps_per_execution and jit_compile; the loss and its metrics are the model's. "
                f"Received: {', '.join(unknown)}"
            )
        if not 0 <= seed < 2**31:
            raise ValueError(f"seed must be in 0..{2**31 - 1}. Received: seed={seed}")
        objective = bounds.Objective(kl_warmup_steps, free_nats, free_nats_steps, prior_floor_steps)
        objective.validate(len(self.config.levels))
        self._check_replicas()
        onednn.advise()
        optimizer = adam.Adam() if optimizer == "adam" else keras.optimizers.get(optimizer)
        if optimizer is None or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            # Of the second its own count of steps, which the noise is made from, stands still.
            raise ValueError(
                "optimizer must be one of Keras' or a name, and not scale the loss, as float16 alone needs. "
                f"Received: {optimizer}"
            )
        options.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, **options)
        self.optimizer.build(self.trainable_variables)
        self._objective = objective
        self._fit_options = {"seed": seed, **objective._asdict(), **options}

    def call(self, images: tf.Tensor | dict[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        """The ELBO's parts; what `fit` minimises and `predict` gives.

        In training, the noise is that of the optimizer's step and the place in the batch; else it is the
        image's own, a function of its pixels.

        Args:
          images: integer pixel values [B, H, W, C]; for a class-conditional model {"images": [B, H, W, C],
            "labels": integers [B]}.
          training: whether dropout is on, and batches are normalised by their own statistics.

        Returns:
          {"reconstruction_nats": [B], "kl_nats": [B, L]}; see `bounds.Elbo`.

        Raises:
          ValueError: if the images have another shape or dtype, or (outside graphs) values out of range; for
            training=True before `compile`.
          tf.errors.InvalidArgumentError: in a graph, if values or labels are out of range (not under XLA).
        """
        labels = None
        if self.config.num_classes:
            if not isinstance(images, dict) or set(images) != {"images", "labels"}:
                raise ValueError(
                    'a class-conditional model takes {"images": ..., "labels": ...}. '
                    f"Received: {sorted(images) if isinstance(images, dict) else type(images).__name__}"
                )
            images, labels = images["images"], images["labels"]
        pixels.check_images(images, self.config.image_shape, self.config.num_values)  # in a graph `log_prob` does
        # Keras traces once for sizes of all kinds after it has met two.
        images = tf.ensure_shape(images, (None, *self.config.image_shape))
        if not training:
            return bounds.elbo(self, images, labels=labels)._asdict()
        if not self.compiled:
            raise ValueError(
                "compile must come before a call with training=True: the noise is that of the optimizer's step. "
                "In a training loop of your own, call bounds.elbo with seeds and a dropout_seed"
            )
        # `iterations` counts updates: it would repeat the noise of batches whose gradients are accumulated.
        # A smaller batch than the others, the last of an epoch, repeats noise of earlier steps.
        step, seed = tf.cast(self.optimizer._iterations, tf.int64), self._fit_options["seed"]
        batch = tf.shape(images, tf.int64)[0]
        seeds = noise.derive_seeds(seed, step * batch + tf.range(batch))
        floor = self._objective.prior_floor(self.optimizer.iterations)  # the clock of the KL's weights
        return bounds.elbo(self, images, seeds, labels, layers.dropout_seed(seed, step), floor)._asdict()

    def fit(self, *args, **kwargs) -> keras.callbacks.History:
        """As `keras.Model.fit`, without sample or class weights, which Keras ignores where there is no y.

        Images are their own targets; labels beside them, as data sets have them, are not used.
        """
        self._check_replicas()
        self._check_arguments(keras.Model.fit, *args, **kwargs)
        return super().fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs) -> float | list[float] | dict[str, float]:
        """As `keras.Model.evaluate`, without sample weights."""
        self._check_arguments(keras.Model.evaluate, *args, **kwargs)
        return super().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs) -> dict[str, np.ndarray]:
        """As `keras.Model.predict`."""
        self._check_arguments(keras.Model.predict, *args, **kwargs)
        return super().predict(*args, **kwargs)

    def train_on_batch(self, *args, **kwargs) -> float | list[float] | dict[str, float]:
        """As `keras.Model.train_on_batch`, without sample or class weights."""
        self._check_replicas()
        self._check_arguments(keras.Model.train_on_batch, *args, **kwargs)
        return super().train_on_batch(*args, **kwargs)

    def _check_replicas(self) -> None:
        """Raises a ValueError under a strategy of several replicas, here or where the model was made."""
        replicas = max(each.num_replicas_in_sync for each in (tf.distribute.get_strategy(), self.distribute_strategy))
        if replicas > 1:
            # Keras sums the replicas' gradients, and would need their noise told apart: `train/` does both.
            raise ValueError(
                f"fit works on one device; use pixelvae_tf.train on several. Received: {replicas} replicas"
            )

    def _check_arguments(self, method: Callable, *args, **kwargs) -> None:
        """Raises a ValueError for arguments that Keras would ignore, or refuse from within a graph.

        What comes from a generator is checked there all the same.
        """
        given = inspect.signature(method).bind_partial(self, *args, **kwargs).arguments
        for name in ("sample_weight", "class_weight"):
            if given.get(name) is not None:
                raise ValueError(NO_WEIGHTS.format(name))
        for x, y, weights in (_parts(given.get("x"), given.get("y")), _parts(given.get("validation_data"))):
            if weights is not None:
                raise ValueError(NO_WEIGHTS.format("sample_weight"))
            images = x.get("images") if isinstance(x, dict) else x
            if hasattr(images, "shape"):
                pixels.check_images(images, self.config.image_shape, self.config.num_values)
            if (tf.TensorShape(getattr(y, "shape", ())).rank or 0) > 2:
                raise ValueError(
                    "y must be None, or labels, which are not used: images are their own targets, as in fit(images). "
                    f"Received: y of shape {tuple(y.shape)}"
                )

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs) -> None:
        """As `keras.Model.export`: writes what `call` computes, the parts of the bound.

        The inputs follow from the config: uint8 images [B, H, W, C], with int64 labels [B] for a class-conditional
        model. pixelvae-export writes a SavedModel that encodes and samples.
        """
        if input_signature is None:
            images = keras.InputSpec(shape=(None, *self.config.image_shape), dtype="uint8")
            labels = keras.InputSpec(shape=(None,), dtype="int64")
            input_signature = [{"images": images, "labels": labels} if self.config.num_classes else images]
        super().export(filepath, format, verbose, input_signature, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> tf.Tensor:
        """Keras' hook: the loss of what `call` gave, a mean over the batch. Labels `y` are not used.

        Raises:
          ValueError: if there are sample weights, which have no place in the bound.
        """
        if sample_weight is not None:
            raise ValueError(NO_WEIGHTS.format("sample_weight"))
        parts = bounds.Elbo(**y_pred)
        batch_size = tf.shape(parts.reconstruction_nats)[0]
        objective = self._objective if training else bounds.Objective()
        loss = objective.loss(parts, self.optimizer.iterations, tf.cast(batch_size, tf.float32))
        means = [loss.reconstruction_nats, *tf.unstack(loss.kl_nats)]
        for metric, value in zip(self._means, means, strict=True):
            metric.update_state(value, sample_weight=batch_size)
        return loss.nats

    def get_config(self) -> dict:
        """The config as plain data, beside Keras' own and what is frozen."""
        frozen = {"frozen": parts} if (parts := frozen_parts(self)) else {}
        return {**super().get_config(), "config": dataclasses.asdict(self.config), **frozen}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """Rebuilds the model from `get_config`."""
        config = dict(config)
        frozen = config.pop("frozen", [])
        model = cls(**{**config, "config": check(ModelConfig, config["config"], "config")})
        freeze(model, frozen)
        return model

    def get_compile_config(self) -> dict | None:
        """What `compile` was given, as plain data; None before."""
        if not self.compiled:
            return None
        return keras.saving.serialize_keras_object({"optimizer": self.optimizer, **self._fit_options})

    def compile_from_config(self, config: dict) -> None:
        """Compiles again as `get_compile_config` says."""
        options = keras.saving.deserialize_keras_object(config)
        options.pop("upper_kl_warmup_steps", None)  # of earlier versions
        self.compile(**options)


def _parts(x: Any, y: Any = None) -> tuple[Any, Any, Any]:
    """Images, targets and weights of what Keras takes: arrays, a tuple of them, or a `tf.data.Dataset`'s specs."""
    spec = getattr(x, "element_spec", x)
    return (*spec, None, None)[:3] if isinstance(spec, tuple) else (spec, y, None)
