"""Where the packages stand; everything else is in pyproject.toml.

`train/` and `export/` stand at the top level of the checkout and are installed inside pixelvae_tf, so
that no site-packages gets a package called "train".
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["pixelvae_tf", "pixelvae_tf.*"]),
        *("pixelvae_tf.train", "pixelvae_tf.export", "pixelvae_tf.export.explore"),
    ],
    package_dir={"pixelvae_tf": "pixelvae_tf", "pixelvae_tf.train": "train", "pixelvae_tf.export": "export"},
    package_data={
        "pixelvae_tf": ["py.typed"],
        "pixelvae_tf.export.explore": ["page.css", "page.js"],
        "pixelvae_tf.presets": ["costs.json"],
        "pixelvae_tf.pretrained": ["*/*/*"],
    },
)
