"""pixelvae_tf: PixelVAE and its family in TensorFlow, with exact likelihoods and a SavedModel to serve.

config = pixelvae_tf.presets.get("digits/gated_pixel_vae")
model = pixelvae_tf.build(config)                  # fresh weights
model, config, step = pixelvae_tf.load("runs/quickstart")
model, config, step = pixelvae_tf.load_pretrained("digits/gated_pixel_vae")  # comes with the package
"""

import importlib
import importlib.metadata
import sys

import wrapt

from pixelvae_tf import keras_backend

# Where each public name is. They are imported when they are first used (PEP 562): TensorFlow takes seconds to import,
# and the commands that compute nothing, as --help, need none of it.
_HOMES = {
    "Config": "config",
    "ModelConfig": "models.config",
    "PixelVAE": "models.pixel_vae",
    "build": "runs",
    "load": "runs",
    "load_pretrained": "pretrained",
}
_MODULES = (
    *("bounds", "codec", "config", "data", "distributions", "layers", "models", "noise", "presets", "pretrained"),
    *("runs", "scores", "testing", "xla"),
)
__all__ = [*_HOMES, *_MODULES, "__version__"]


def __getattr__(name: str):
    if name == "__version__":
        return importlib.metadata.version("pixelvae_tf")
    if name in _HOMES:
        if name not in ("Config", "ModelConfig"):
            keras_backend.check()
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. Its public names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _register_classes(imported) -> None:
    """Lets `keras.models.load_model` know this package's classes, whichever of the two, or what module, comes first."""
    modules = [module for name, module in sys.modules.copy().items() if name.startswith(f"{__name__}.")]
    # In the middle of an import they could not be imported. The hook comes again at its end.
    if any(getattr(module.__spec__, "_initializing", False) for module in modules if module != imported):
        return
    if "keras" in sys.modules and sys.modules["keras"].config.backend() == "tensorflow":
        importlib.import_module(f"{__name__}.models.pixel_vae")


for _module in (*_MODULES, "sampling", *(f"models.{name}" for name in ("elbo_model", "hierarchy", "level", "weights"))):
    wrapt.register_post_import_hook(_register_classes, f"{__name__}.{_module}")
wrapt.register_post_import_hook(_register_classes, "keras")
