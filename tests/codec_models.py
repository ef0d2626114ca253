"""What the codec's tests decode with: networks of a few lines of NumPy, and real ones without a SavedModel."""

import json
import types

import numpy as np

from pixelvae_tf.codec import Networks, functions
from pixelvae_tf.config import Config, GatedPixelCNNConfig, LevelConfig, ModelConfig, to_json

_GATED = GatedPixelCNNConfig(num_layers=1, filters=2, kernel_size=3, first_kernel_size=3)
LATENTS = ModelConfig((3, 4, 2), 5, [LevelConfig(3, (2,))], _GATED)
EXACT = ModelConfig((3, 4, 2), 5, [], _GATED)
CLASSES = ModelConfig((3, 4, 2), 5, [], _GATED, num_classes=3)


class PlainNetworks(Networks):
    """Networks whose numbers depend on all that a decoder knows at a place: a wrong value changes all behind it.

    Args:
      config: categorical pixels, and one level of latents or none.
      noise: by how much the numbers differ from call to call, uniformly.
      scale: of the logits; 0 makes all values equally likely.
    """

    def __init__(
        self, config: ModelConfig = LATENTS, noise: float = 0.0, scale: float = 4.0, fingerprint: str = "plain"
    ):
        card = {"fingerprint": fingerprint, "max_batch": 8, "name": "plain", "data": {"name": "test"}}
        super().__init__(types.SimpleNamespace(codec=None), card, config)
        self.noise, self.scale, self.random = noise, scale, np.random.default_rng(0)

    def _noisy(self, params: np.ndarray) -> np.ndarray:
        return params + self.noise * self.random.uniform(-1.0, 1.0, params.shape)

    def posterior(self, images):
        if not self.latent_shapes:
            return []
        means = np.stack([np.sin(images.reshape(len(images), -1) @ np.arange(24) * k) for k in (1, 2, 3)], axis=1)
        # A standard deviation's noise is relative.
        scales = np.exp(self._noisy(np.log(0.1 + 0.05 * means)))
        return [np.stack([self._noisy(means), scales], axis=-1)]

    def groups(self, raster, channels):
        return channels

    def run(self, raster, shape, inputs, batch, groups, value):
        memory = np.full(batch, 0.5)
        for name, given in inputs.items():
            memory = memory + given.reshape(batch, -1).sum(axis=1) * (0.3 if name == "label" else 0.1)
        for _ in range(shape[0] * shape[1] * groups):
            logits = self.scale * np.sin(memory[:, None] * np.arange(1, self.config.num_values + 1))
            made = value(self._noisy(logits[:, None]))
            memory = np.cos(3.0 * memory) + made[:, 0]


class _Function:
    """A traced function with what a loaded SavedModel's has."""

    def __init__(self, function):
        self.function, self.concrete_functions = function, function._list_all_concrete_functions()

    def __call__(self, inputs):
        return self.function(inputs)


def networks_of(model) -> Networks:
    """The networks of a model, by the functions that an export would hold."""
    codec = types.SimpleNamespace(
        **{name: _Function(function) for name, function in functions.functions(model).items()}
    )
    loaded = types.SimpleNamespace(codec=codec, signatures={"encode": lambda images: model.encode(images)})
    card = {"config": json.loads(to_json(Config(model=model.config))), "fingerprint": "model", "max_batch": 4}
    return Networks(loaded, card, model.config)
