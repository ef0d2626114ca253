"""What a graph has to compute and to move, operation by operation, and how long a machine takes for it at best.

An operation takes the longer one of its arithmetic at the machine's rate and its bytes (inputs read, outputs written)
at the machine's bandwidth, and something to start (Williams et al. 2009). That neither rate is reached by small
operations, and that compilers fuse what is here read and written one after the other, is not counted.
"""

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

# Nothing is moved for these.
_VIEWS = {"Const", "ExpandDims", "Identity", "IdentityN", "NoOp", "Placeholder", "ReadVariableOp", "Reshape", "Shape"}
_VIEWS |= {"Squeeze", "StopGradient", "PreventGradient", "VarHandleOp", "Pack", "Range", "Fill", "ZerosLike"}
_CALLS = {"PartitionedCall": ("f",), "StatefulPartitionedCall": ("f",), "While": ("body",), "StatelessWhile": ("body",)}
_CALLS |= {"If": ("then_branch",), "StatelessIf": ("then_branch",)}


class Convolution(NamedTuple):
    """Shapes [B, H, W, C] of the input and [h, w, C, F] of the kernel, stride and padding."""

    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    padding: str


class Operation(NamedTuple):
    """One of a graph: its kind, floating-point operations, bytes read and written, bytes of its outputs."""

    kind: str
    flops: int
    bytes: int
    output_bytes: int
    convolution: Convolution | None = None


class Machine(NamedTuple):
    """What a machine does: FLOP/s of convolutions and products, bytes/s, seconds to start an operation."""

    flops: float
    bandwidth: float
    start: float


@dataclasses.dataclass(frozen=True)
class Work:
    """All operations of a graph."""

    operations: tuple[Operation, ...]

    @property
    def flops(self) -> int:
        """Of all operations."""
        return sum(operation.flops for operation in self.operations)

    @property
    def bytes(self) -> int:
        """Of all operations."""
        return sum(operation.bytes for operation in self.operations)

    def heaviest_convolutions(self) -> dict[Convolution, int]:
        """FLOPs of the eight forward convolutions that have most of them."""
        flops = collections.Counter()
        for operation in self.operations:
            if operation.convolution:
                flops[operation.convolution] += operation.flops
        return dict(flops.most_common(8))

    def seconds(self, machine: Machine) -> dict[str, float]:
        """Seconds on a machine, by what bounds the operations: "arithmetic", "bytes" or "starts"."""
        seconds = dict.fromkeys(("arithmetic", "bytes", "starts"), 0.0)
        for operation in self.operations:
            arithmetic, moves = operation.flops / machine.flops, operation.bytes / machine.bandwidth
            seconds["arithmetic" if arithmetic > moves else "bytes"] += max(arithmetic, moves)
            seconds["starts"] += machine.start
        return seconds


def work_of(function: tf.types.experimental.ConcreteFunction) -> Work:
    """The work of a traced function; of loops one iteration, of branches the first."""
    return Work(tuple(_operations(function.graph, {})))


def _operations(graph: tf.Graph, known: dict[str, list[Operation]]) -> Iterator[Operation]:
    for operation in graph.get_operations():
        if operation.type in _CALLS:
            for attribute in _CALLS[operation.type]:
                name = operation.get_attr(attribute).name
                if name not in known:
                    known[name] = list(_operations(graph._get_function(name).graph, known))
                yield from known[name]
        elif operation.type not in _VIEWS:
            yield _cost(operation)


def _numel(tensor: tf.Tensor) -> int:
    """Elements; 0 where the shape is not known."""
    return tensor.shape.num_elements() or 0


def _size(tensor: tf.Tensor) -> int:
    return _numel(tensor) * tensor.dtype.size if tensor.dtype.size else 0


def _cost(operation: tf.Operation) -> Operation:
    inputs, outputs = list(operation.inputs), list(operation.outputs)
    flops, moved, convolution = 0, sum(map(_size, inputs + outputs)), None
    kind = operation.type
    if kind == "Conv2D":
        shapes = [tuple(tensor.shape) for tensor in inputs]
        convolution = Convolution(*shapes, operation.get_attr("strides")[1], operation.get_attr("padding").decode())
        flops = 2 * _numel(outputs[0]) * math.prod(inputs[1].shape[:3])
    elif kind in ("Conv2DBackpropInput", "Conv2DBackpropFilter"):
        kernel = inputs[1] if kind == "Conv2DBackpropInput" else outputs[0]
        flops = 2 * _numel(inputs[2]) * math.prod(kernel.shape[:3])
    elif kind in ("MatMul", "BatchMatMulV2"):
        transposed = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
        flops = 2 * _numel(outputs[0]) * (inputs[0].shape[-2 if transposed else -1] or 0)
    elif kind == "ResourceApplyAdam":  # weights and both moments, read and written, and the gradient
        moved = 7 * _size(inputs[-1])
    elif kind in ("AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp"):
        moved = 3 * _size(inputs[1])
    return Operation(kind, flops, moved, sum(map(_size, outputs)), convolution)


def best_seconds(function: Callable[[], object], clock: Callable[[], float], repeats: int = 5) -> float:
    """The shortest of several calls, after one that compiles."""
    function()
    taken = []
    for _ in range(repeats):
        start = clock()
        function()
        taken.append(clock() - start)
    return min(taken)


def matrix_product_rate(
    dtype: str = "float32", size: int = 2048, clock: Callable[[], float] = time.perf_counter
) -> float:
    """FLOP/s of large matrix products, one after the other."""
    a, number = tf.cast(tf.random.stateless_normal((size, size), (1, 2)), dtype), 8

    @tf.function
    def products():
        x = a
        for _ in range(number):
            x = tf.matmul(x, a) * tf.cast(0.01, dtype)
        return tf.reduce_sum(x)

    return 2 * number * size**3 / best_seconds(lambda: products().numpy(), clock)


def convolution_rate(flops: dict[Convolution, int], clock: Callable[[], float] = time.perf_counter) -> float:
    """FLOP/s of convolutions and their two gradients, in float32, each as heavy as its FLOPs say."""

    def seconds(convolution: Convolution) -> float:
        x, kernel = (tf.Variable(tf.random.stateless_normal(shape, (1, 2))) for shape in convolution[:2])

        @tf.function
        def run():
            with tf.GradientTape() as tape:
                y = tf.nn.conv2d(x, kernel, convolution.stride, convolution.padding)
            gradients = tape.gradient(y, (x, kernel), output_gradients=y)
            return sum(tf.reshape(gradient, (-1,))[0] for gradient in gradients)

        return best_seconds(lambda: run().numpy(), clock)

    def flops_of(convolution: Convolution) -> float:
        batch, height, width, _ = convolution.inputs
        smaller = [0, 0] if convolution.padding == "SAME" else [size - 1 for size in convolution.kernel[:2]]
        places = [-(-(a - b) // convolution.stride) for a, b in zip((height, width), smaller, strict=True)]
        return 3 * 2 * batch * math.prod(places) * math.prod(convolution.kernel)

    taken = sum(number * seconds(convolution) / flops_of(convolution) for convolution, number in flops.items())
    return sum(flops.values()) / taken


def _minima(x: tf.Variable, y: tf.Variable, number: int) -> Callable[[], tf.Tensor]:
    """A function of `number` operations, one after the other, that TensorFlow's optimizers leave as they are."""

    @tf.function
    def minima():
        z = tf.convert_to_tensor(x)
        for index in range(number):
            z = (tf.minimum, tf.maximum)[index % 2](z, y)
        return tf.reshape(z, (-1,))[0]

    return minima


def bandwidth(size: int = 2**26, clock: Callable[[], float] = time.perf_counter) -> float:
    """Bytes/s that minima of two large float32 tensors read and write."""
    x, y = (tf.Variable(tf.random.stateless_uniform((size // 4,), (1, seed))) for seed in range(2))
    function = _minima(x, y, 4)
    return 4 * 3 * size / best_seconds(lambda: function().numpy(), clock)


def start_seconds(clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that an operation of a graph takes which computes next to nothing."""
    x, y = (tf.Variable(tf.random.stateless_uniform((8,), (1, seed))) for seed in range(2))
    function = _minima(x, y, 500)
    return best_seconds(lambda: function().numpy(), clock) / 500


def measured(work: Work, clock: Callable[[], float] = time.perf_counter) -> Machine:
    """This machine in float32, at the heaviest convolutions of some work."""
    return Machine(convolution_rate(work.heaviest_convolutions(), clock), bandwidth(clock=clock), start_seconds(clock))
