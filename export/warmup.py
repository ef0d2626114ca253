"""Requests that TensorFlow Serving runs when it loads a version, before it answers any other."""

import pathlib

import tensorflow as tf

from pixelvae_tf.errors import first_line
from pixelvae_tf.export.examples import example
from pixelvae_tf.export.signatures import ServedFunction

# Where TensorFlow Serving looks for them.
WARMUP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
# With more of them it does not load the model.
MAX_REQUESTS = 1000


def requests(name: str, served: dict[str, ServedFunction], batches: tuple[int, ...]) -> list[bytes]:
    """A request for every signature and batch size, all valid: one that fails would keep the model from loading.

    Args:
      name: the model's, for the server.
      served: the signatures.
      batches: sizes.

    Returns:
      A serialized `PredictionLog` each.

    Raises:
      ValueError: for more requests than the server takes, or where the package of its messages is missing.
    """
    if len(batches) * len(served) > MAX_REQUESTS:
        raise ValueError(
            f"warmup must be at most {MAX_REQUESTS // len(served)} batch sizes: TensorFlow Serving takes "
            f"{MAX_REQUESTS} requests, and there are {len(served)} signatures. Received: {len(batches)} sizes"
        )
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ValueError(
            "warmup needs TensorFlow Serving's messages: pip install 'pixelvae_tf[serving]', or leave warmup out. "
            f"Received: {error}"
        ) from error
    records = []
    for batch in batches:
        for signature_name, signature in served.items():
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name, request.model_spec.signature_name = name, signature_name
            for tensor, values in example(signature.inputs, batch).items():
                request.inputs[tensor].CopyFrom(tf.make_tensor_proto(values))
            records.append(log.SerializeToString())
    return records


def write(records: list[bytes], saved_model: pathlib.Path) -> None:
    """Writes the requests into a SavedModel."""
    try:
        with tf.io.TFRecordWriter(str(saved_model / WARMUP)) as writer:
            for record in records:
                writer.write(record)
    except tf.errors.OpError as error:  # what TensorFlow makes of a full disk
        raise OSError(f"export_dir must have room for the warm-up. Received: {first_line(error)}") from error
