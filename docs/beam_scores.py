r"""Encodes and scores many images by Apache Beam, into Parquet files: what pixelvae-score does, on any runner.

    pip install '.[beam]'
    python docs/beam_scores.py --saved_model=models/parts/1 --images=photos --output=scored/part \
      --runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=8
    python docs/beam_scores.py --saved_model=models/mnist/1 --images='DATA/mnist/3.0.1/mnist-test.*' --output=scored

--images is a folder, searched recursively, whose files are cropped and resized as pixelvae-score does it; or a pattern
of TFRecord or ArrayRecord files as TFDS writes them, whose images are of the model's size. A line an image: its file
(of a record, file:place), what is wrong with it if it cannot be read, its scores (`pixelvae_tf.scores`), the latents'
means and the map of its pixels. What is not named here goes to Beam: with --runner=DataflowRunner, FlinkRunner or
SparkRunner, and what these want, the same script uses a cluster, whose machines have this package and see the files.
"""

import argparse
import functools
import glob
import pathlib

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference import base, tensorflow_inference
from apache_beam.options.pipeline_options import PipelineOptions

from pixelvae_tf import scores
from pixelvae_tf.export import local, scoring
from pixelvae_tf.export import scorer as scorer_lib


class Served:
    """A SavedModel as Beam's TensorFlow handler loads one that is not Keras': `load_weights` reads all of it.

    Args:
      background: path of a background model, or empty.
    """

    def __init__(self, background: str):
        self.background = background

    def load_weights(self, path: str) -> None:
        """Loads the model, once a process."""
        background = local.SavedModel(self.background) if self.background else None
        self.scorer = scorer_lib.Scorer(local.SavedModel(path), background)

    def rows(self, images: np.ndarray, mean_bound_nats: float | None) -> list[dict]:
        """What is written of images, uint8 [B, H, W, C]."""
        measured = self.scorer.measure(images)
        columns = scores.table(
            measured["log_prob"],
            measured.get("kl_nats"),
            images,
            self.scorer.num_values,
            measured.get("background_log_prob"),
            mean_bound_nats,
        )
        if self.scorer.model.config.model.levels:
            encoded = self.scorer.model.predict("encode", {"images": images})
            columns |= {name: values for name, values in encoded.items() if name.endswith("_mean")}
        columns["pixel_nats"] = measured["pixel_nats"]
        return [{name: np.ravel(values[row]) for name, values in columns.items()} for row in range(len(images))]


def infer(served: Served, batch, inference_args, model_id=None):
    """Beam's hook: a batch of images -> a result each."""
    rows = served.rows(np.stack(batch), inference_args.get("mean_bound_nats"))
    return [base.PredictionResult(image, row, model_id) for image, row in zip(batch, rows, strict=True)]


def read_file(folder: str, config, path: str):
    """(path, pixels or why there are none)."""
    read = scorer_lib.read(pathlib.Path(folder), path, config)
    return path, read.note if read.pixels is None else read.pixels


def read_records(config, path: str):
    """(path:place, pixels) of every tf.train.Example of a file."""
    import tensorflow as tf
    from google.protobuf import message

    if ".array_record" in pathlib.Path(path).name:
        from array_record.python import array_record_module

        reader = array_record_module.ArrayRecordReader(path)
        records = reader.read(0, reader.num_records())
    else:
        records = tf.data.TFRecordDataset(path).as_numpy_iterator()
    for place, record in enumerate(records):
        try:
            content = tf.train.Example.FromString(record).features.feature["image"].bytes_list.value[0]
            image = tf.io.decode_image(content, config.image_shape[-1]).numpy()
        except (IndexError, message.DecodeError, tf.errors.OpError) as error:
            yield f"{path}:{place}", f"records must be tf.train.Example with an image. Received: {error!r:.200}"
            continue
        good = image.shape == tuple(config.image_shape) and image.max() < config.num_values
        expected = f"images must be {tuple(config.image_shape)}, of values 0..{config.num_values - 1}"
        yield f"{path}:{place}", image if good else f"{expected}. Received: {image.shape}, up to {image.max()}"


def as_row(element) -> dict:
    """A line of the Parquet file."""
    file, result = element
    columns = {name: values.tolist() for name, values in result.inference.items()}
    single = {name: values[0] for name, values in columns.items() if name not in LISTS and not name.endswith("_mean")}
    return {"file": file, "error": None, **columns, **single}


LISTS = ("pixel_nats",)


def schema(model: local.SavedModel, background: bool, typicality: bool) -> pa.Schema:
    """The columns: those of the scores that can be had, then the lists."""
    levels = len(model.config.model.levels)
    nothing = np.zeros(1)
    image = np.zeros((1, *model.config.model.image_shape), np.uint8)
    kl = np.zeros((1, levels)) if levels else None
    found = scores.table(nothing, kl, image, 2, nothing if background else None, 0.0 if typicality else None)
    lists = [*(f"z{level}_mean" for level in range(1, levels + 1)), *LISTS]
    return pa.schema(
        [
            *(("file", pa.string()), ("error", pa.string())),
            *((name, pa.float64()) for name in found),
            *((name, pa.list_(pa.float32())) for name in lists),
        ]
    )


def run(argv: list[str] | None = None) -> None:
    """Parses the flags and runs the pipeline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved_model", required=True, help="Directory of a version.")
    parser.add_argument("--background", default="", help="Directory of a version of a background model.")
    parser.add_argument("--images", required=True, help="A folder, or a pattern of TFRecord or ArrayRecord files.")
    parser.add_argument("--output", required=True, help="What the Parquet files' names begin with.")
    parser.add_argument("--mean_bound_nats", type=float, help="Of images of the model's kind, for typicality.")
    options, of_beam = parser.parse_known_args(argv)
    model = local.SavedModel(options.saved_model)
    background = local.SavedModel(options.background) if options.background else model
    config = model.config.model
    handler = tensorflow_inference.TFModelHandlerNumpy(
        options.saved_model,
        tensorflow_inference.ModelType.SAVED_WEIGHTS,
        functools.partial(Served, options.background),
        inference_fn=infer,
        max_batch_size=min(model.max_batch, background.max_batch),
    )
    if pathlib.Path(options.images).is_dir():
        paths = scoring.list_files(pathlib.Path(options.images), "images")
        read = beam.Map(functools.partial(read_file, options.images, config))
    else:
        paths = sorted(glob.glob(options.images))
        read = beam.FlatMap(functools.partial(read_records, config))
        if not paths:
            raise SystemExit(
                f"beam_scores: images must be a folder or a pattern of files. Received: {options.images!r}"
            )
    columns = schema(model, bool(options.background), options.mean_bound_nats is not None)
    with beam.Pipeline(options=PipelineOptions(of_beam)) as pipeline:
        elements = pipeline | beam.Create(paths) | beam.Reshuffle() | "read" >> read
        bad = (
            elements
            | "unreadable" >> beam.Filter(lambda element: isinstance(element[1], str))
            | beam.Map(lambda element: dict.fromkeys(columns.names) | {"file": element[0], "error": element[1]})
        )
        good = (
            elements
            | "readable" >> beam.Filter(lambda element: not isinstance(element[1], str))
            | base.RunInference(
                base.KeyedModelHandler(handler), inference_args={"mean_bound_nats": options.mean_bound_nats}
            )
            | beam.Map(as_row)
        )
        (good, bad) | beam.Flatten() | beam.io.WriteToParquet(options.output, columns, file_name_suffix=".parquet")


if __name__ == "__main__":
    run()
