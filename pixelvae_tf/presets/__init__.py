"""Every run of the papers as data: `get("binarized_mnist/gated_pixel_vae")` is a `Config`.

A preset states its difference from another, what it is, and the number that it should give, with who says so. Its cost
(weights, and multiply-adds of one evaluation of the bound of an image) is in costs.json, which
`python -m pixelvae_tf.presets.costs` writes.
"""

from pixelvae_tf.presets import cifar10, digits, folder, mnist, natural_images
from pixelvae_tf.presets.command import command_for, without_places
from pixelvae_tf.presets.registry import Description, describe, get, names, preset

__all__ = [
    "Description",
    "cifar10",
    "command_for",
    "describe",
    "digits",
    "folder",
    "get",
    "mnist",
    "names",
    "natural_images",
    "preset",
    "without_places",
]
