"""Counts what every preset costs and writes costs.json, which `pixelvae-train --list` reads.

python -m pixelvae_tf.presets.costs
"""

import json

import keras

from pixelvae_tf import presets
from pixelvae_tf.config import Config
from pixelvae_tf.layers.weight_norm import multiply_adds
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.presets.registry import COSTS_PATH, Cost


def count(config: Config) -> Cost:
    """Builds a model without allocating its weights and counts them, and the multiply-adds of its layers."""
    with keras.StatelessScope(initialize_variables=False):
        model = PixelVAE(config.model)
    # A bound goes through the image in each order.
    more = (len(config.model.orders) - 1) * multiply_adds(model.network)
    return Cost(model.count_params(), multiply_adds(model) + more)


def main() -> None:
    """Writes the file: a line for each preset."""
    lines = [f"  {json.dumps(name)}: {json.dumps(count(presets.get(name))._asdict())}" for name in presets.names()]
    COSTS_PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
