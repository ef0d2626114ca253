"""Calls the signatures of a served model, by TensorFlow Serving's REST interface or by gRPC.

REST needs NumPy and the standard library alone, gRPC also `tensorflow-serving-api`. This file imports nothing of
pixelvae_tf: it may be copied to where only a client runs. REST goes through a proxy where the environment names one.

    client = Rest("localhost:8501", "digits")
    images = client.predict("sample", {"seed": np.arange(4), "temperature": np.ones(4)})["images"]
"""

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Grpc", "Rest", "ServerError"]

# The types that our signatures use, by TensorFlow's names.
DTYPES = {"DT_UINT8": np.uint8, "DT_INT64": np.int64, "DT_FLOAT": np.float32, "DT_STRING": np.object_}
MAX_TIMEOUT = 86400
MAX_MESSAGE = 1 << 16  # bytes of a refusal that are read
Arrays = dict[str, np.ndarray]


class ServerError(Exception):
    """A failed request: no server, no such model, or a request or row that was refused."""


class Tensor(NamedTuple):
    """A tensor of a signature.

    Attributes:
      dtype: NumPy's; strings are objects.
      shape: -1 for the batch.
    """

    dtype: type
    shape: tuple[int, ...]


class Signature(NamedTuple):
    """The inputs and outputs of a signature, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Model:
    """The base of served models and of local ones (`local.py`): checked calls."""

    def signature(self, name: str) -> Signature:
        """The signature of that name.

        Raises:
          ServerError: if the model has none.
        """
        raise NotImplementedError

    def predict(self, name: str, inputs: Arrays) -> Arrays:
        """Calls a signature.

        Args:
          name: the signature's name.
          inputs: by name; the batch comes first in each. Converted to the signature's dtypes.

        Returns:
          The outputs by name, without `error`.

        Raises:
          ServerError: if the request is refused, or a row of it, or the answer is not what the signature says.
        """
        signature = self.signature(name)
        if set(inputs) != set(signature.inputs):
            raise ServerError(
                f"inputs of the signature {name} must be {', '.join(sorted(signature.inputs))}. "
                f"Received: {', '.join(sorted(inputs))}"
            )
        cast = {key: _cast(key, value, signature.inputs[key].dtype) for key, value in inputs.items()}
        for key, value in cast.items():
            shape = signature.inputs[key].shape
            if value.ndim != len(shape) or any(
                size not in (-1, given) for size, given in zip(shape, value.shape, strict=True)
            ):
                expected = ", ".join(["B", *(str(size) for size in shape[1:])])
                raise ServerError(f"{key} must be of shape [{expected}]. Received: {list(value.shape)}")
        outputs = self._call(name, cast, signature.outputs)
        batch = len(next(iter(cast.values())))
        for key, tensor in signature.outputs.items():
            expected = (batch, *tensor.shape[1:])
            if outputs[key].shape != expected:
                raise self._other_outputs(f"{key} of shape {outputs[key].shape} for {expected}")
        for row, error in enumerate(outputs.pop("error", ())):
            if error:
                text = error.decode(errors="replace") if isinstance(error, bytes) else error
                raise ServerError(f"row {row} of the request was refused: {text}")
        return outputs

    def image_shape(self, name: str) -> tuple[int, int, int]:
        """(H, W, C) of the images that a signature takes; raises a ServerError if it takes none."""
        _, shape = self.signature(name).inputs.get("images", (None, ()))
        if len(shape) != 4 or min(shape[1:]) < 1:
            what = f"whose signature {name} takes images [B, H, W, C]. Received: images of shape {list(shape)}"
            raise ServerError(f"model must be one that pixelvae-export wrote, {what}")
        return shape[1:]

    def limits(self, batch: int = 1) -> tuple[int, int]:
        """What the model takes, by what it refuses: the metadata do not contain it.

        Args:
          batch: that is wanted.

        Returns:
          How many values a channel can take, and the largest batch if that is less than the one wanted, else that.

        Raises:
          ServerError: as `predict`.
        """
        shape, inputs = self.image_shape("log_prob"), self.signature("log_prob").inputs
        arrays = {name: np.zeros((batch, *tensor.shape[1:])) for name, tensor in inputs.items()}
        try:
            self.predict("log_prob", arrays | {"images": np.full((batch, *shape), 255)})
        except ServerError as error:
            if values := re.search(r"images must hold values in 0\.\.(\d+)", str(error)):
                return int(values[1]) + 1, batch
            # The model's own words, or those of TensorFlow Serving's batching. They come before those on values.
            size = re.search(r"must be at most (\d+), the max_batch|maximum input batch size (\d+)", str(error))
            if size is None or int(size[1] or size[2]) >= batch:
                raise
            return self.limits(int(size[1] or size[2]))
        return 256, batch

    def _call(self, name: str, inputs: Arrays, outputs: dict[str, Tensor]) -> Arrays:
        """The outputs of a signature, in the dtypes of `outputs`; strings may be bytes."""
        raise NotImplementedError

    def _other_outputs(self, what: str) -> ServerError:
        return ServerError(f"the model gave other outputs than its signature: {what}")

    def _no_signature(self, name: str, model: str, names: Iterable[str]) -> ServerError:
        known = ", ".join(sorted(each for each in names if not each.startswith("__"))) or "none"
        return ServerError(f"model must have the signature {name}. Received: {model!r}, which has {known}")


class _Server(Model):
    """A served model. Its signatures are requested once, at the start."""

    def __init__(self, server: str, model: str, timeout: float = 60.0):
        """Asks the server for its signatures.

        Args:
          server: host:port.
          model: the name that the server knows it by.
          timeout: seconds that a call may take.

        Raises:
          ServerError: if it does not answer, or not with signatures.
          ValueError: for a timeout that is not above 0, or of more than a day.
        """
        if not 0 < timeout <= MAX_TIMEOUT:
            raise ValueError(f"timeout must be above 0 and at most {MAX_TIMEOUT} seconds. Received: {timeout}")
        self._server, self._model, self._timeout = server, model, timeout
        self._check_address()
        self._connect()
        self._definitions = self._describe()

    def _check_address(self) -> None:
        if "://" in self._server:
            raise self._unreachable("it begins with a scheme")
        try:
            address = urllib.parse.urlsplit(f"//{self._server}")
            if not address.hostname or address.port == 0:
                raise ValueError("host and port must not be empty or 0")
            self._server.encode(), self._model.encode()
        except UnicodeEncodeError as error:
            raise ServerError(f"server and model must be UTF-8. Received: {self._server!r}, {self._model!r}") from error
        except ValueError as error:
            raise self._unreachable(error) from error

    def _connect(self) -> None:
        """Opens the connection that calls use."""

    def signature(self, name: str) -> Signature:
        """See `Model`."""
        if name not in self._definitions:
            raise self._no_signature(name, self._model, self._definitions)
        try:
            return _parse(self._definitions[name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServerError(
                f"model must be one that pixelvae-export wrote. Received: {self._model!r}, whose signature {name} is "
                f"of another kind: {error!r}"
            ) from error

    def _describe(self) -> dict[str, dict]:
        """The SignatureDefs by name, as protobuf writes them in JSON."""
        raise NotImplementedError

    def _unreachable(self, reason: object) -> ServerError:
        return ServerError(f"server must be the host:port of one that answers. Received: {self._server!r}: {reason}")

    def _other_outputs(self, what: str) -> ServerError:
        return self._unreachable(f"it gave other outputs than its signature: {what}")

    def _too_slow(self) -> ServerError:
        return ServerError(
            f"timeout must be at least what an answer takes. Received: {self._timeout:g} seconds, after which "
            f"{self._server!r} had not answered"
        )

    def _refused(self, status: object, message: str, no_such_model: bool) -> ServerError:
        if no_such_model:
            return ServerError(f"model must be one that the server has. Received: {self._model!r}: {message}")
        return ServerError(f"the server refused the request, {status}: {message}")


class Rest(_Server):
    """A served model by REST (port 8501 of TensorFlow Serving)."""

    def _describe(self) -> dict[str, dict]:
        answer = self._ask("/metadata")
        try:
            return dict(answer["metadata"]["signature_def"]["signature_def"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreachable("it gave no signatures") from error

    def _call(self, name: str, inputs: Arrays, outputs: dict[str, Tensor]) -> Arrays:
        columns = {key: value.tolist() for key, value in inputs.items()}
        answer = self._ask(":predict", {"signature_name": name, "inputs": columns})
        try:
            return {key: _cast(key, answer["outputs"][key], outputs[key].dtype) for key in outputs}
        except (KeyError, TypeError, ValueError, OverflowError, ServerError) as error:
            raise self._other_outputs(repr(error)) from error

    def _ask(self, what: str, body: dict | None = None) -> dict:
        """GET, or POST where there is a body."""
        url = f"http://{self._server}/v1/models/{urllib.parse.quote(self._model, safe='')}{what}"
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(f"HTTP {error.code}", _message(error), error.code == 404) from error
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from error
        except TimeoutError as error:
            raise self._too_slow() from error
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise self._unreachable(repr(error)) from error


class Grpc(_Server):
    """A served model by gRPC (port 8500 of TensorFlow Serving); needs the package tensorflow-serving-api."""

    def _connect(self) -> None:
        """Makes a channel; raises an ImportError without the package."""
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        # A batch of large images is more than the 4 MB that gRPC receives by default.
        channel = grpc.insecure_channel(self._server, [("grpc.max_receive_message_length", -1)])
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def _describe(self) -> dict[str, dict]:
        from google.protobuf import json_format
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._model
        signatures = get_model_metadata_pb2.SignatureDefMap()
        self._ask(self._stub.GetModelMetadata, request).metadata["signature_def"].Unpack(signatures)
        return json_format.MessageToDict(signatures, preserving_proto_field_name=True).get("signature_def", {})

    def _call(self, name: str, inputs: Arrays, outputs: dict[str, Tensor]) -> Arrays:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, name
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        answer = self._ask(self._stub.Predict, request).outputs
        try:
            return {key: _cast(key, tf.make_ndarray(answer[key]), outputs[key].dtype) for key in outputs}
        except (TypeError, ValueError, ServerError) as error:
            raise self._other_outputs(repr(error)) from error

    def _ask(self, method, request):
        import grpc

        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            status = error.code()
            if status == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._too_slow() from error
            # A server that has described its model sends this when its queue is full.
            if status == grpc.StatusCode.UNAVAILABLE and method is not self._stub.Predict:
                raise self._unreachable(error.details()) from error
            raise self._refused(status.name, error.details(), status == grpc.StatusCode.NOT_FOUND) from error


def _parse(definition: dict) -> Signature:
    """Parses a SignatureDef in protobuf's JSON form."""

    def tensors(infos: dict) -> dict[str, Tensor]:
        return {
            name: Tensor(
                DTYPES[info["dtype"]], tuple(int(size["size"]) for size in info["tensor_shape"].get("dim", ()))
            )
            for name, info in infos.items()
        }

    return Signature(tensors(definition["inputs"]), tensors(definition["outputs"]))


def _cast(name: str, value: Any, dtype: type) -> np.ndarray:
    """Casts to the dtype of a signature; a ServerError where 256 would become 0, 1.7 become 1, or 1e300 infinite."""
    try:
        value = np.asarray(value)
        with np.errstate(invalid="ignore", over="ignore"):
            cast = value.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ServerError(f"{name} must hold values of {np.dtype(dtype).name}. Received: {error}") from error
    lost = np.zeros(value.shape, bool)
    if np.issubdtype(dtype, np.integer):
        lost = cast != value
    elif np.issubdtype(dtype, np.floating):
        lost = np.isinf(cast) & np.isfinite(value.astype(np.float64))
    if lost.any():
        raise ServerError(f"{name} must hold values of {np.dtype(dtype).name}. Received: {value[lost].flat[0]}")
    return cast


def _message(error: urllib.error.HTTPError) -> str:
    """The error message in the body of a response."""
    try:
        body = error.read(MAX_MESSAGE).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:200] or error.reason
