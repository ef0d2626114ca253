"""Two small servers of SavedModels for the tests, on a port of this machine each.

They follow our reading of TensorFlow Serving's source and documentation: which requests its gRPC service
(PredictionService, by `tensorflow-serving-api`) and its REST interface (the columnar form, "inputs") take, and with
which status the others are refused. They are no TensorFlow Serving, and nothing was compared with one. As there, the
graph is run by its tensors' names in a session.
"""

import contextlib
import http.server
import json
import pathlib
import re
import threading
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
HTTP_STATUS = {grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.INTERNAL: 500}
VALUES = {np.uint8: "int_val", np.int64: "int64_val", np.float32: "float_val", np.object_: "string_val"}


class Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, message: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT):
        super().__init__(message)
        self.code = code


class Model:
    """A version of a SavedModel, loaded."""

    def __init__(self, path: pathlib.Path):
        self.version = int(path.name)
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self.signatures = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path)).signature_def

    def signature(self, name: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT):
        """The SignatureDef of a name, or of the default where that is empty."""
        name = name or "serving_default"
        if name not in self.signatures:
            raise Refused(f'Serving signature name: "{name}" not found in signature def', code)
        return self.signatures[name]

    def run(self, signature, inputs: dict[str, np.ndarray], wanted=()) -> dict[str, np.ndarray]:
        """Runs a signature on arrays of its names and dtypes."""
        for name in wanted:
            if name not in signature.outputs:
                raise Refused(f"output tensor alias not found in signature: {name}")
        fetches = {name: info.name for name, info in signature.outputs.items() if not wanted or name in wanted}
        try:
            return self._session.run(fetches, {signature.inputs[name].name: value for name, value in inputs.items()})
        except tf.errors.OpError as error:
            raise Refused(error.message, CODES[error.error_code]) from error
        except (TypeError, ValueError) as error:  # what Python's session checks before it runs the graph
            raise Refused(str(error)) from error


Models = dict[str, Model]


def _find(models: Models, name: str, version: int | None) -> Model:
    if name not in models or version not in (None, models[name].version):
        raise Refused(f"Servable not found for request: Latest({name})", grpc.StatusCode.NOT_FOUND)
    return models[name]


def _find_by_spec(models: Models, spec) -> Model:
    return _find(models, spec.name, spec.version.value if spec.HasField("version") else None)


def _metadata(model: Model) -> get_model_metadata_pb2.SignatureDefMap:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in model.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    return signatures


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The contract servicer: Predict and GetModelMetadata over loaded models."""

    def __init__(self, models: Models):
        self._models = models

    def Predict(self, request, context):
        """Answers, or aborts with INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION or what the graph raises."""
        try:
            return self._predict(request)
        except Refused as error:
            context.abort(error.code, str(error))

    def GetModelMetadata(self, request, context):
        """The signatures."""
        try:
            if list(request.metadata_field) != ["signature_def"]:
                raise Refused(f"Metadata field {list(request.metadata_field)} is not supported")
            model = _find_by_spec(self._models, request.model_spec)
        except Refused as error:
            context.abort(error.code, str(error))
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = request.model_spec.name, model.version
        response.metadata["signature_def"].Pack(_metadata(model))
        return response

    def _predict(self, request):
        model = _find_by_spec(self._models, request.model_spec)
        signature = model.signature(request.model_spec.signature_name, grpc.StatusCode.FAILED_PRECONDITION)
        if set(request.inputs) != set(signature.inputs):
            sent, needed = sorted(request.inputs), sorted(signature.inputs)
            raise Refused(f"input size does not match signature: sent {sent}, required {needed}")
        inputs = {name: _parse(name, proto, signature.inputs[name].dtype) for name, proto in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        response.model_spec.version.value = model.version
        for name, value in model.run(signature, inputs, list(request.output_filter)).items():
            response.outputs[name].CopyFrom(_as_fields(value))
        return response


def _parse(name: str, proto: tensor_pb2.TensorProto, dtype: int) -> np.ndarray:
    """Reads a tensor by TensorFlow's own parser, which is the model server's."""
    if proto.dtype != dtype:
        raise Refused(f"{name} must be of dtype {tf.as_dtype(dtype).name}. Received: {proto.dtype}")
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(dtype)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise Refused(f"{name}: {error.message}") from error


def _as_fields(array: np.ndarray) -> tensor_pb2.TensorProto:
    """As the model server answers: a value at a time, not as bytes."""
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(array.dtype).as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    getattr(proto, VALUES[array.dtype.type]).extend(array.ravel().tolist())
    return proto


class Handler(http.server.BaseHTTPRequestHandler):
    """REST: POST /v1/models/NAME:predict and GET /v1/models/NAME/metadata."""

    models: Models
    # A body that never comes must not hold a thread.
    timeout = 10

    def do_POST(self):
        """Predicts."""
        self._answer(self._predict)

    def do_GET(self):
        """Describes."""
        self._answer(self._describe)

    def log_message(self, format, *args):
        """Says nothing in the tests' output."""

    def _answer(self, function) -> None:
        try:
            status, answer = 200, function()
        except Refused as error:
            status, answer = HTTP_STATUS.get(error.code, 400), {"error": str(error)}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _find(self, ending: str) -> tuple[str, Model]:
        match = re.fullmatch(rf"/v1/models/([^/:]+)(?:/versions/(\d{{1,18}}))?{ending}", self.path)
        if not match:
            raise Refused(f"Malformed request: {self.command} {self.path}")
        name, version = match.groups()
        return name, _find(self.models, name, int(version) if version else None)

    def _describe(self) -> dict:
        name, model = self._find("/metadata")
        signatures = json_format.MessageToDict(
            _metadata(model), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        spec = {"name": name, "signature_name": "", "version": str(model.version)}
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def _predict(self) -> dict:
        _, model = self._find(":predict")
        try:
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        except (ValueError, RecursionError, OSError) as error:
            raise Refused(f"JSON Parse error: {error}") from error
        if not isinstance(request, dict) or not isinstance(request.get("inputs"), dict):
            raise Refused("Missing 'inputs' object, the only form that is understood here")
        if not isinstance(request.get("signature_name", ""), str):
            raise Refused("'signature_name' key must be a string value.")
        signature = model.signature(request.get("signature_name", ""))
        inputs = {}
        # What is sent beside the signature's inputs is ignored, as there.
        for name, info in signature.inputs.items():
            if name not in request["inputs"]:
                raise Refused(f"Missing named input: {name} in 'inputs' object.")
            inputs[name] = _from_json(name, request["inputs"][name], tf.as_dtype(info.dtype).as_numpy_dtype)
        outputs = model.run(signature, inputs).items()
        return {"outputs": {name: _to_json(value) for name, value in outputs}}


def _from_json(name: str, values, dtype: type) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:  # lists of unequal length
        raise Refused(f"{name}: {error}") from error
    if array.size and array.dtype.kind not in ("if" if np.issubdtype(dtype, np.floating) else "i"):
        raise Refused(f"{name}: JSON Value is not of expected type: {np.dtype(dtype).name}")
    return array.astype(dtype)


def _to_json(array: np.ndarray) -> list:
    return [text.decode() for text in array] if array.dtype == object else array.tolist()


@contextlib.contextmanager
def serve_grpc(models: Models):
    """Serves models by name; gives the address."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(models), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


@contextlib.contextmanager
def serve_http(handler: type[http.server.BaseHTTPRequestHandler]):
    """Answers by a handler; gives the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def serve_rest(models: Models):
    """Serves models by name; gives the address."""
    return serve_http(type("ModelsHandler", (Handler,), {"models": models}))
