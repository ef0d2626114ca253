"""The files that TensorFlow Serving is started with, beside the versions."""

import json
import os
import pathlib

from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.files import write_atomically

MODELS, BATCHING = "models.config", "batching_parameters.txt"
_MODEL = """\
  config {{
    name: {name}
    base_path: {base_path}
    model_platform: "tensorflow"
  }}
"""
_BATCHING = """\
# Requests are merged up to the largest batch that the signatures take.
max_batch_size {{ value: {max_batch} }}
# How long one waits for others: little beside the tens of milliseconds that a batch of samples takes.
batch_timeout_micros {{ value: 5000 }}
# Batches computed at a time, for all models; make it the number of cores where batches are small.
num_batch_threads {{ value: 4 }}
# Batches of a signature that may wait; beyond it the server answers UNAVAILABLE.
max_enqueued_batches {{ value: 4 }}
"""
_ALLOWED = "# A batch is filled up to the next of these with copies of a row: the sizes warmed up, and the largest.\n"


def model_name(export_dir: str | pathlib.Path) -> str:
    """What a server calls the model: the directory's own name.

    Raises:
      ValueError: for the root, which has none, and for an empty path.
    """
    name = os.path.basename(os.path.abspath(export_dir))
    if not name or not os.fspath(export_dir):
        raise ValueError(f"export_dir must have a name, which becomes the model's. Received: {str(export_dir)!r}")
    return name


def xla_variant(export_dir: str | pathlib.Path) -> pathlib.Path:
    """The directory for the model compiled by XLA: of one name, a server would only serve the highest version."""
    return pathlib.Path(os.path.normpath(os.path.join(export_dir, "..", f"{model_name(export_dir)}_xla")))


def write(export_dirs: list[str | pathlib.Path], options: ServingOptions) -> None:
    """Writes the model config and the batching parameters beside the versions of the first model.

    They are of the last export: what stood there before is replaced.

    Args:
      export_dirs: the models' directories; a server finds each at /models/NAME.
      options: the export's options.
    """
    names = [model_name(export_dir) for export_dir in export_dirs]
    models = [_MODEL.format(name=_text(name), base_path=_text(f"/models/{name}")) for name in names]
    batching = _BATCHING.format(max_batch=options.max_batch)
    # Without a warm-up no size is better than another.
    if options.warmup:
        allowed = sorted({*options.warmup, options.max_batch})
        batching += _ALLOWED + "".join(f"allowed_batch_sizes: {size}\n" for size in allowed)
    base = pathlib.Path(export_dirs[0])
    write_atomically(base / MODELS, f"model_config_list {{\n{''.join(models)}}}\n")
    write_atomically(base / BATCHING, batching)


def _text(value: str) -> str:
    """A string of a text proto, which is escaped as in JSON."""
    return json.dumps(value, ensure_ascii=False)
