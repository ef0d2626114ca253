"""pixelvae_tf: PixelVAE and its family in TensorFlow, with exact likelihoods and a SavedModel to serve.

config = pixelvae_tf.presets.get("digits/gated_pixel_vae")
model = pixelvae_tf.build(config)                  # fresh weights
model, config, step = pixelvae_tf.load("runs/quickstart")
model, config, step = pixelvae_tf.load_pretrained("digits/gated_pixel_vae")  # comes with the package
"""

from pixelvae_tf import presets
from pixelvae_tf.pretrained import load_pretrained
from pixelvae_tf.runs import build, load

__all__ = ["build", "load", "load_pretrained", "presets"]
