"""Graphs: layers that are alike are traced once, and the bodies of loops stay functions."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixelvae_tf import control_flow
from pixelvae_tf.layers import Chain, MaskedConv2D, PointwiseLayer, shared


def make_chain(num_alike: int) -> Chain:
    """Type A, then layers of type B that differ in their weights alone, then one of another size."""
    alike = [MaskedConv2D(4, 3, "B", name=f"alike_{index}") for index in range(num_alike)]
    chain = Chain([MaskedConv2D(4, 3, "A", name="first"), *alike, MaskedConv2D(2, 3, "B", name="last")])
    chain.build((None, 4, 5, 2), (None, 3))
    return chain


def operations(function: tf.types.experimental.PolymorphicFunction, *inputs) -> int:
    """Operations of a graph and of its library."""
    graph = function.get_concrete_function(*inputs).graph.as_graph_def()
    return len(graph.node) + sum(len(called.node_def) for called in graph.library.function)


def test_layers_that_are_alike_give_their_own_values_and_gradients():
    chain = make_chain(3)
    x, context = tf.random.stateless_normal((2, 4, 5, 2), (1, 2)), tf.random.stateless_normal((2, 3), (3, 4))

    def values_and_gradients():
        with tf.GradientTape() as tape:
            values = chain(x, context=context)
            loss = tf.reduce_sum(values**2)
        return values, tape.gradient(loss, [weight.value for weight in chain.trainable_weights])

    # Eagerly every layer computes by itself. Sums of tens of products of order one in float32.
    for in_graph, eager in zip(
        tf.nest.flatten(tf.function(values_and_gradients)()), tf.nest.flatten(values_and_gradients()), strict=True
    ):
        np.testing.assert_allclose(in_graph, eager, rtol=1e-4, atol=1e-5)


def test_each_layer_more_that_is_alike_costs_its_weights_and_a_call():
    x, context = tf.zeros((2, 4, 5, 2)), tf.zeros((2, 3))

    def count(num_alike, method):
        chain = make_chain(num_alike)
        functions = {
            "call": tf.function(lambda x, context: chain(x, context=context)),
            "stepper": tf.function(lambda x, context: chain.stepper(context, 2, (4, 5))),
        }
        return operations(functions[method], x, context)

    for method in ("call", "stepper"):
        # A weight is captured and read, and the call has about as many outputs; computed apart, a layer has over 60.
        more = [count(number + 1, method) - count(number, method) for number in (3, 4)]
        assert more[0] == more[1] <= 4 * len(make_chain(3).layers[1].weights), method


def test_layers_that_change_something_of_their_own_are_not_alike():
    """Two dropouts with seeds: in one graph for both, they would drop the same, and that for ever."""

    class Dropping(PointwiseLayer):
        def __init__(self, **options):
            super().__init__(**options)
            self.scale, self.dropout = keras.layers.Dense(64), keras.layers.Dropout(0.5, seed=1)

        def build(self, input_shape, context_shape=None):
            self.scale.build(input_shape)
            self.dropout.build(input_shape)
            self.built = True

        def call(self, x, context=None, training=False, seed=None):
            return self.dropout(self.scale(x), training=training)

        def compute_output_shape(self, input_shape, context_shape=None):
            return self.scale.compute_output_shape(input_shape)

    chain = Chain([Dropping(), Dropping(), Dropping()])
    chain.build((None, 1, 1, 64))
    train = tf.function(lambda x: chain(x, training=True))
    first, second = (train(tf.ones((1, 1, 1, 64))).numpy() for _ in range(2))
    assert ((first == 0) != (second == 0)).any()


def test_alike_is_all_but_the_names():
    layers = make_chain(2).layers
    assert shared.alike(layers) == [None, layers[1], layers[1], None]
    other = MaskedConv2D(4, 5, "B")
    other.build((None, 4, 5, 4), (None, 3))
    assert shared.alike([layers[1], other, layers[2]]) == [layers[1], None, layers[1]]


def test_the_name_of_a_dtype_policy_is_none_of_a_layers():
    """Nor is an entry of that name in an argument of a layer: both change what is computed."""
    pair = [MaskedConv2D(4, 3, dtype=dtype) for dtype in ("mixed_bfloat16", "float32")]
    chain = Chain([MaskedConv2D(4, 3, "A"), *pair])
    x = tf.ones((1, 2, 2, 1))
    assert tf.function(chain)(x).dtype == chain(x).dtype == tf.float32
    assert shared.alike(pair) == [None, None]


class NoConfig(PointwiseLayer):
    """A layer of a user's own: Keras makes no config of what it is given."""

    def __init__(self, initializer, **kwargs):
        super().__init__(**kwargs)
        self.initializer = initializer

    def build(self, x_shape, context_shape=None):
        """Creates a weight."""
        self.scale = self.add_weight(shape=(), initializer=self.initializer)
        super().build(x_shape)

    def fold(self):
        """The weight."""
        return tf.convert_to_tensor(self.scale)

    def apply(self, constants, x):
        """Scales."""
        return constants * x


def test_layers_without_a_config_are_like_no_other():
    chain = Chain([NoConfig(keras.initializers.Constant(value)) for value in (2.0, 3.0)])
    x = tf.ones((1, 2, 2, 1))
    assert shared.alike(chain.layers) == [None, None]
    np.testing.assert_array_equal(tf.function(chain)(x), 6 * x)


def test_classes_of_one_name_are_not_alike():
    def make(bias):
        class Shift(MaskedConv2D):
            """One of several classes of this name, as a notebook makes them."""

            def call(self, x, context=None, training=False, seed=None):
                """Adds what its config does not say."""
                return super().call(x, context, training, seed) + bias

        layer = Shift(4, 3)
        layer.build((None, 4, 5, 4))
        return layer

    assert shared.alike([make(1.0), make(2.0)]) == [None, None]


def test_graphs_of_layers_go_with_the_layers():
    chain = make_chain(2)
    tf.function(chain)(tf.zeros((1, 4, 5, 2)), context=tf.zeros((1, 3)))
    first = weakref.ref(chain.layers[1])
    assert first() in shared._functions
    del chain
    gc.collect()
    assert first() is None


@pytest.mark.parametrize("eager", [True, False])
def test_loops_and_branches_stay_functions(eager):
    def collatz(number):
        def step(number, steps):
            return control_flow.cond(number % 2 == 0, lambda: number // 2, lambda: 3 * number + 1), steps + 1

        return control_flow.while_loop(lambda number, steps: number > 1, step, (number, tf.constant(0)))[1]

    if eager:
        assert int(collatz(tf.constant(27))) == 111
        return
    graph = tf.function(collatz).get_concrete_function(tf.constant(27))
    assert int(graph(tf.constant(27))) == 111
    proto = graph.graph.as_graph_def()
    nodes = [*proto.node, *(node for function in proto.library.function for node in function.node_def)]
    split = {node.op: node.attr["_lower_using_switch_merge"].b for node in nodes if node.op.startswith("Stateless")}
    assert split == {"StatelessWhile": False, "StatelessIf": False}
