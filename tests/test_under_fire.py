"""A server of an export under fire: what is malformed is answered by an error, and the next good request is served.

The server is the contract servicer of servers.py, over the wire; requests are built by hand and by hypothesis. Every
request has a deadline, so that one that hangs fails.
"""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from exports import export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Model, serve_grpc
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from pixelvae_tf.export.options import Options

METHOD = "/tensorflow.serving.PredictionService/Predict"
SECONDS = 60
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# The same every time; no deadline, since the machine may be busy.
FIRE = settings(
    max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def send():
    """Sends the bytes of a request, gives those of the answer."""
    with (
        serve_grpc({"family": Model(export("gated_pixel_vae").path)}) as address,
        grpc.insecure_channel(address) as wire,
    ):
        call = wire.unary_unary(METHOD)  # no serializers: bytes as they are
        yield lambda request: call(request, timeout=SECONDS)


def _good() -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "family", "sample"
    request.inputs["seed"].CopyFrom(tf.make_tensor_proto([7, 8], tf.int64))
    request.inputs["temperature"].CopyFrom(tf.make_tensor_proto([1.0, 1.0], tf.float32))
    return request


@pytest.fixture(scope="module")
def is_served(send):
    """Holds a good request's answer against the model."""
    expected = export("gated_pixel_vae").model.sample(np.array([7, 8])).numpy()

    def check():
        answer = predict_pb2.PredictResponse.FromString(send(_good().SerializeToString()))
        np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["images"]), expected)

    return check


def _refused(send, request: bytes, codes=frozenset(REFUSALS)) -> str:
    """The message of the error that answers it."""
    with pytest.raises(grpc.RpcError) as error:
        send(request)
    assert error.value.code() in codes, (error.value.code(), error.value.details())
    assert error.value.details()
    return error.value.details()


def _with(**inputs) -> predict_pb2.PredictRequest:
    """The good request with other inputs; None takes one away."""
    request = _good()
    for name, value in inputs.items():
        if value is None:
            del request.inputs[name]
        else:
            proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
            request.inputs[name].CopyFrom(proto)
    return request


def _of(signature: str, **inputs) -> predict_pb2.PredictRequest:
    request = _with(**{"seed": None, "temperature": None, **inputs})
    request.model_spec.signature_name = signature
    return request


def _declared(dtype: str, *shape: int, **content) -> tensor_pb2.TensorProto:
    """A tensor that says what it is, whatever is in it."""
    proto = tensor_pb2.TensorProto(dtype=getattr(types_pb2, dtype), **content)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


def _spec(**fields) -> predict_pb2.PredictRequest:
    request = _good()
    for name, value in fields.items():
        setattr(request.model_spec, name, value)
    return request


def _version(number: int) -> predict_pb2.PredictRequest:
    request = _good()
    request.model_spec.version.value = number
    return request


ONES = np.ones(2, np.float32)
IMAGES = {"images": np.zeros((2, 7, 7, 1), np.uint8)}
DRAWN = {"seed": np.zeros(2, np.int64), "temperature": ONES}
MALFORMED = {
    "nothing": predict_pb2.PredictRequest(),
    "model": _spec(name="other"),
    "version": _version(9),
    "signature": _spec(signature_name="other"),
    "missing": _with(seed=None),
    "unexpected": _with(label=np.zeros(2, np.int64)),
    "misspelt": _with(temperature=None, temprature=ONES),
    "output": predict_pb2.PredictRequest(
        model_spec=_good().model_spec, inputs=_good().inputs, output_filter=["latents"]
    ),
    "rank": _with(seed=np.zeros((2, 1), np.int64)),
    "scalar": _with(seed=np.int64(1), temperature=np.float32(1)),
    "sizes": _with(temperature=np.ones(3, np.float32)),
    "one for all": _with(temperature=np.ones(1, np.float32)),
    "int32": _with(seed=np.zeros(2, np.int32)),
    "double": _with(temperature=np.ones(2)),
    "string": _with(seed=np.array([b"7", b"8"])),
    "image shape": _of("encode", images=np.zeros((2, 7, 8, 1), np.uint8)),
    "image rank": _of("encode", images=np.zeros((7, 7, 1), np.uint8)),
    "image dtype": _of("encode", images=np.zeros((2, 7, 7, 1), np.float32)),
    "latents": _of("decode", z1=np.zeros((2, 4), np.float32), seed=np.zeros(2, np.int64), temperature=ONES),
    "mask shape": _of("complete", **IMAGES, mask=np.zeros((2, 7, 7, 3), np.uint8), **DRAWN),
    "mask size": _of("complete", **IMAGES, mask=np.zeros((1, 7, 7, 1), np.uint8), **DRAWN),
    "mask dtype": _of("complete", **IMAGES, mask=np.zeros((2, 7, 7, 1), np.bool_), **DRAWN),
    "no mask": _of("complete", **IMAGES, **DRAWN),
    "short content": _with(seed=_declared("DT_INT64", 2, tensor_content=b"\0" * 15)),
    "long content": _with(seed=_declared("DT_INT64", 2, tensor_content=b"\0" * 17)),
    "negative size": _with(seed=_declared("DT_INT64", -2, int64_val=[7, 8])),
    "overflow": _with(seed=_declared("DT_INT64", 2**40, 2**40, int64_val=[7])),
    "huge and empty": _with(seed=_declared("DT_INT64", 2**40)),
    "huge images": _of("encode", images=_declared("DT_UINT8", 10**7, 7, 7, 1, int_val=[1])),
    "unknown rank": _with(seed=_declared("DT_INT64", int64_val=[7, 8])),
    "dtype of nothing": _with(seed=tensor_pb2.TensorProto(dtype=10**6)),
    "variant": _with(seed=_declared("DT_VARIANT", 2)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused(send, is_served, case):
    _refused(send, MALFORMED[case].SerializeToString())
    is_served()


def test_a_message_beyond_the_servers_limit_is_refused(send, is_served):
    number = 5 * 2**20 // 49  # gRPC takes 4 MB by default
    _refused(send, _of("encode", images=np.zeros((number, 7, 7, 1), np.uint8)).SerializeToString())
    is_served()


def test_a_batch_beyond_the_exports_limit_is_refused(send, is_served):
    number = Options.max_batch + 1
    request = _with(seed=np.zeros(number, np.int64), temperature=np.ones(number, np.float32))
    message = _refused(send, request.SerializeToString(), {grpc.StatusCode.INVALID_ARGUMENT})
    assert f"must be at most {Options.max_batch}" in message
    is_served()


def test_one_bad_row_is_no_error(send):
    """It is its own, in the output `error`; the neighbour is served."""
    request = _with(temperature=np.array([1.0, np.nan], np.float32))
    answer = predict_pb2.PredictResponse.FromString(send(request.SerializeToString()))
    assert list(map(bool, answer.outputs["error"].string_val)) == [False, True]
    expected = export("gated_pixel_vae").model.sample(np.array([7])).numpy()
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["images"])[:1], expected)


def test_truncated_bytes(send, is_served):
    """Bytes that are no message are refused by gRPC itself, the start of one that is by the servicer."""
    whole = _good().SerializeToString(deterministic=True)
    for length in range(len(whole)):
        _refused(send, whole[:length], REFUSALS | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
    is_served()


def _answer_or_refusal(send, request: bytes, codes=frozenset(REFUSALS)) -> predict_pb2.PredictResponse | None:
    """Random bytes may be a good request; then the answer has a row for each seed."""
    try:
        return predict_pb2.PredictResponse.FromString(send(request))
    except grpc.RpcError as error:
        assert error.code() in codes, (error.code(), error.details())
        return None


@FIRE
@given(data=st.binary(max_size=200))
def test_random_bytes(send, is_served, data):
    _answer_or_refusal(send, data, REFUSALS | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
    is_served()


@FIRE
@given(name=st.sampled_from(["seed", "temperature"]), content=st.binary(max_size=64))
def test_random_content_of_a_tensor(send, is_served, name, content):
    """Bytes that TensorProto's parser takes, and those that are refused with all that is around them."""
    good = _good()
    del good.inputs[name]
    # The entry of the map `inputs` (field 2 of the request): its key (1), its value (2), by hand.
    entry = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12" + bytes([len(content)]) + content
    request = good.SerializeToString() + b"\x12" + bytes([len(entry)]) + entry
    _answer_or_refusal(send, request, REFUSALS | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
    is_served()


SIZES = st.one_of(st.integers(-3, 5), st.integers(-(2**63), 2**63 - 1))
TENSORS = st.builds(
    lambda dtype, sizes, content: _declared(types_pb2.DataType.Name(dtype), *sizes, **content),
    st.one_of(
        st.sampled_from([types_pb2.DT_INT64, types_pb2.DT_FLOAT, types_pb2.DT_UINT8]),
        st.sampled_from(types_pb2.DataType.values()),
    ),
    st.lists(SIZES, max_size=5),
    st.fixed_dictionaries(
        {},
        optional={
            "tensor_content": st.binary(max_size=64),
            "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8),
            "int64_val": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8),
            "float_val": st.lists(st.floats(width=32), max_size=8),
            "string_val": st.lists(st.binary(max_size=8), max_size=3),
            "version_number": st.integers(-(2**31), 2**31 - 1),
        },
    ),
)
NAMES = st.one_of(st.sampled_from(["seed", "temperature", "images", "mask", "z1", ""]), st.text(max_size=8))
SIGNATURES = st.one_of(
    st.sampled_from(["sample", "encode", "decode", "complete", "log_prob", "sample_by_level", ""]), st.text(max_size=8)
)


@FIRE
@given(signature=SIGNATURES, inputs=st.dictionaries(NAMES, TENSORS, max_size=4))
def test_random_requests(send, is_served, signature, inputs):
    """Random tensors of random dtypes, shapes and contents, under random names."""
    request = _of(signature, **inputs)
    _answer_or_refusal(send, request.SerializeToString())
    is_served()


@FIRE
@given(seed=TENSORS, temperature=TENSORS)
def test_random_tensors_of_the_right_names(send, is_served, seed, temperature):
    answer = _answer_or_refusal(send, _with(seed=seed, temperature=temperature).SerializeToString())
    if answer is not None:
        assert len(answer.outputs["error"].string_val) == tf.make_ndarray(answer.outputs["images"]).shape[0]
    is_served()
