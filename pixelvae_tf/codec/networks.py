"""A SavedModel as the codec uses it: what it knows of images, and its functions, from NumPy to NumPy.

Legend: B batch, H height, W width, C channels, G channel groups.
"""

import functools
from collections.abc import Callable

import numpy as np

from pixelvae_tf.codec import sites
from pixelvae_tf.likelihoods import LIKELIHOODS
from pixelvae_tf.models.config import ModelConfig

# From params [B, c, P] of a location and channel group to its values [B, c].
Value = Callable[[np.ndarray], np.ndarray]


class Networks:
    """A model's networks; TensorFlow runs them.

    Args:
      loaded: what `tf.saved_model.load` gives.
      card: the card's facts, as data.
      config: of the model.
      path: of the SavedModel, for processes that load it again.

    Raises:
      ValueError: if the SavedModel has no functions for the codec.
    """

    def __init__(self, loaded, card: dict, config: ModelConfig, path: str = ""):
        self.card, self.config, self.path = card, config, path
        if not hasattr(loaded, "codec"):
            raise ValueError(
                "saved_model must have the functions of the codec, which pixelvae-export writes for every model but "
                "those without raster order, or with a likelihood of your own that is not channelwise: "
                "export it again. Received: one of pixelvae_tf "
                f"{card.get('versions', {}).get('pixelvae_tf')} without them"
            )
        self._loaded = loaded

    def __reduce__(self):
        return _load, (self.card, self.config, self.path)

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        return self.card["fingerprint"]

    @property
    def max_batch(self) -> int:
        """The largest batch of `encode`."""
        return self.card["max_batch"]

    @functools.cached_property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Of each level, level 1 first."""
        return [level.shape for level in self.config.levels]

    def tree(self) -> sites.Tree:
        """What stands at a pixel."""
        from pixelvae_tf.codec import functions

        config = self.config
        make_site = LIKELIHOODS[config.resolved_likelihood].make
        return functions.tree(make_site(config.num_values, config.image_shape[2], config.num_mixtures))

    def posterior(self, images: np.ndarray) -> list[np.ndarray]:
        """Means and standard deviations of q(z_l | x) of images uint8 [B, H, W, C]: of each level [B, D, 2], flat."""
        import tensorflow as tf

        if not self.latent_shapes:
            return []
        outputs = self._loaded.signatures["encode"](images=tf.constant(images))
        levels = range(1, len(self.latent_shapes) + 1)
        params = [[outputs[f"z{level}_{kind}"].numpy() for kind in ("mean", "stddev")] for level in levels]
        return [np.stack(pair, axis=-1).reshape(len(images), -1, 2) for pair in params]

    def groups(self, raster: str, channels: int) -> int:
        """In how many groups the channels of a location are made, one after the other; 1 where none waits for any."""
        steps = [hasattr(self._loaded.codec, f"{raster}_step_{group}") for group in range(channels)]
        return max(sum(steps), 1)

    def run(
        self, raster: str, shape: tuple[int, int, int], inputs: dict, batch: int, groups: int, value: Value
    ) -> None:
        """Goes through a raster, location by location.

        Args:
          raster: "pixels", or "z1", ... of a level whose prior is learnt.
          shape: (H, W, C).
          inputs: arrays that it is conditioned on, by name.
          batch: B.
          groups: of its channels, from `groups`.
          value: asked for each location and channel group, in order; in 0 .. V - 1 of pixels, real numbers of latents.
        """
        import tensorflow as tf

        height, width, channels = shape
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        begun = getattr(self._loaded.codec, f"{raster}_begin")({**tensors, "batch": tf.constant(batch)})
        if "state" not in begun:
            params = begun["params"].numpy()
            for row, column in np.ndindex(height, width):
                value(params[:, row, column])
            return
        steps = [_Step(getattr(self._loaded.codec, f"{raster}_step_{group}")) for group in range(groups)]
        next_row = _Step(getattr(self._loaded.codec, f"{raster}_next_row"))
        constants, params, state = list(begun["constants"]), begun["params"], list(begun["state"])
        numbers = [tf.constant(number) for number in range(max(height, width) + 1)]
        dtype = np.int32 if raster == "pixels" else np.float32
        finished, last = np.zeros((batch, width, channels), dtype), np.zeros(0, dtype)
        for row in range(height):
            for column, group in np.ndindex(width, groups):
                if column or group:
                    params, *state = steps[group](*constants, *state, tf.constant(last), numbers[column])
                last = value(params.numpy()).astype(dtype)
                finished[:, column, group::groups] = last
            if row < height - 1:
                params, *state = next_row(*constants, *state, tf.constant(finished), numbers[row + 1])


def _load(card: dict, config: ModelConfig, path: str) -> Networks:
    """Those of another process."""
    import tensorflow as tf

    return Networks(tf.saved_model.load(path), card, config, path)


class _Step:
    """A function of a SavedModel, from tensors to tensors, both in the order that `tf.nest.flatten` gives.

    TensorFlow's own call looks at the type and the shape of each of a few hundred tensors in Python, which takes longer
    than the step.
    """

    def __init__(self, function):
        graph = function.concrete_functions[0]
        self._call, self._captured = graph.inference_fn.call_flat, graph.captured_inputs

    def __call__(self, *tensors) -> list:
        return self._call(*tensors, *self._captured)
