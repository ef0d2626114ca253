"""pixelvae_tf: PixelVAE and its family in TensorFlow, with exact likelihoods and a SavedModel to serve.

config = pixelvae_tf.presets.get("digits/gated_pixel_vae")
model = pixelvae_tf.build(config)                  # fresh weights
model, config, step = pixelvae_tf.load("runs/quickstart")
model, config, step = pixelvae_tf.load_pretrained("digits/gated_pixel_vae")  # comes with the package
"""

from pixelvae_tf import keras_backend

__all__ = ["build", "load", "load_pretrained", "presets"]

if keras_backend.REFUSAL is None:
    from pixelvae_tf import presets
    from pixelvae_tf.pretrained import load_pretrained
    from pixelvae_tf.runs import build, load
else:
    # The package itself can be imported: its commands then end with one line instead of a traceback.
    def __getattr__(name: str):
        if name in __all__:
            keras_backend.check()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
