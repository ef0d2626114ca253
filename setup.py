"""Where the packages stand, and the README as a package index shows it; everything else is in pyproject.toml.

`train/` and `export/` stand at the top level of the checkout and are installed inside pixelvae_tf, so
that no site-packages gets a package called "train".
"""

import os
import pathlib
import re
import tomllib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
# The address of the repository, which whoever releases knows.
URL = os.environ.get("PROJECT_URL", "").rstrip("/")


def readme() -> str:
    """README.md; with links to the repository in place of those to its files, where its address is known."""
    text = (ROOT / "README.md").read_text()
    if not URL:
        return text
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\g<1>{URL}/raw/v{version}/", text)
    text = re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:)", rf"\g<1>{URL}/blob/v{version}/", text)
    return text.replace("REPOSITORY", URL, 1)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    project_urls={"Paper": "https://arxiv.org/abs/1611.05013", **({"Source": URL} if URL else {})},
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
