"""Presets: each builds, under names that last, and costs what costs.json says."""

import pytest

from pixelvae_tf import presets, runs
from pixelvae_tf.presets import costs, registry

COSTS = registry.costs()


def test_every_preset_has_a_cost():
    assert list(COSTS) == presets.names(), "run python -m pixelvae_tf.presets.costs"


@pytest.mark.parametrize("name", presets.names())
def test_costs_are_those_of_the_model(name):
    assert costs.count(presets.get(name)) == COSTS[name], "run python -m pixelvae_tf.presets.costs"


@pytest.mark.parametrize("name", [name for name in presets.names() if name.startswith("digits/")])
def test_names_of_weights_do_not_depend_on_the_models_built_before(name):
    """A checkpoint of another process must have the same names. The digits have every kind of network."""
    first, again = runs.build(presets.get(name)), runs.build(presets.get(name))
    assert list(runs.weights_of(first)) == list(runs.weights_of(again))
    assert first.count_params() == COSTS[name].weights


def test_costs_read_well():
    assert str(registry.Cost(67_138, 50_000_384)) == "67,138 weights, 50 M multiply-adds"
    assert str(registry.Cost(53_553_000, 24_350_000_000)) == "53,553,000 weights, 24.4 G multiply-adds"
    assert presets.describe("digits/vae").cost == str(COSTS["digits/vae"])
