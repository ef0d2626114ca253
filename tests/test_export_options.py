"""What an export can be asked for: XLA, a largest batch, a warm-up, files to start a server with."""

import contextlib
import itertools
import json
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from exports import MAX_BATCH, ONE_LAYER, THREE_LEVELS, constants
from family import make_model
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from pixelvae_tf.export import card, check, check_process, exporter, serving_config, warmup
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.export.signatures import signatures


def request(batch, **changes):
    inputs = {"seed": np.arange(batch), "temperature": np.ones(batch, np.float32)}
    return {name: tf.constant(values) for name, values in {**inputs, **changes}.items()}


@pytest.fixture
def plain(export):
    """At most `MAX_BATCH` images, two warm-up requests per signature."""
    return export("at_most_2")


@pytest.fixture
def compiled(export):
    """The same model, compiled by XLA."""
    return export("at_most_2_by_xla")


def test_the_variant_is_compiled_and_draws_the_same_images(plain, compiled):
    saved = saved_model_pb2.SavedModel.FromString((compiled.path / "saved_model.pb").read_bytes())
    functions = [f for f in saved.meta_graphs[0].graph_def.library.function if f.attr["_XlaMustCompile"].b]
    assert functions
    # What XLA cannot do stays outside.
    strings = tf.string.as_datatype_enum
    assert not [node for function in functions for node in function.node_def if node.attr["T"].type == strings]
    # Rounding decides about 1e-5 of the pixels in float32; here are 40.
    drawn = compiled.loaded.signatures["sample"](**request(MAX_BATCH))["images"]
    np.testing.assert_array_equal(drawn, plain.loaded.signatures["sample"](**request(MAX_BATCH))["images"])


def test_a_variant_in_parts_draws_the_same_images():
    """In this process: `test_xla.py` has the parts, and a SavedModel of them has nothing else."""
    model = make_model(ONE_LAYER)
    whole, parts = (
        signatures(model, options)["sample"].function
        for options in (ServingOptions(), ServingOptions(xla=True, xla_parts=2))
    )
    np.testing.assert_array_equal(whole(request(2))["images"], parts(request(2))["images"])


@pytest.mark.parametrize("name", ["at_most_2", "at_most_2_by_xla"])
def test_an_empty_batch_and_one_above_the_largest_are_refused(export, name):
    sample = export(name).loaded.signatures["sample"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"must be at most {MAX_BATCH}, the max_batch"):
        sample(**request(MAX_BATCH + 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="the first dimension of seed must be at least 1"):
        sample(**request(0))
    assert not b"".join(sample(**request(MAX_BATCH))["error"].numpy())


def test_xlas_numbers_are_held_against_the_models():
    model, options = make_model(ONE_LAYER), ServingOptions(xla=True)
    with mock.patch("pixelvae_tf.xla.compiled", lambda function, parts: lambda **inputs: _halved(function(**inputs))):
        wrong = {"log_prob": signatures(model, options)["log_prob"].function}
    right = signatures(model, ServingOptions())
    endpoints = {
        name: tf.function(wrong[name], input_signature=[right[name].inputs], autograph=False) for name in wrong
    }
    cases = exporter._cases(endpoints, {2}, exporter._without_xla(model, options))
    request = {key.rpartition("|")[2]: value for key, value in cases.items() if key.startswith("log_prob|2|in|")}
    expected = right["log_prob"].function({key: tf.constant(value) for key, value in request.items()})
    np.testing.assert_array_equal(cases["log_prob|2|out|log_prob"], expected["log_prob"])
    assert expected["log_prob"][0] < -1.0, "half of it must be something else"
    assert not exporter._without_xla(model, ServingOptions())


def _halved(outputs):
    return {name: values / 2 if values.dtype.is_floating else values for name, values in outputs.items()}


@pytest.mark.parametrize(
    "options",
    [
        ServingOptions(),
        ServingOptions(1),
        ServingOptions(3),
        *(ServingOptions(9, xla=True, xla_parts=n) for n in (2, 6, 9)),
    ],
)
def test_the_check_cuts_a_batch_where_the_variant_does(options):
    sizes = exporter.checked_batches(options)
    assert max(sizes) >= options.xla_parts and all(1 <= size <= options.max_batch for size in sizes)
    assert len(sizes) >= min(2, options.max_batch)


@pytest.mark.parametrize(("config", "rounds"), [(ONE_LAYER, 0), (THREE_LEVELS, 5)])
def test_a_model_without_latents_completes_in_no_rounds(config, rounds):
    assert card.describe(make_model(config), {}, ServingOptions(completion_rounds=5))["completion_rounds"] == rounds


def test_the_check_holds_for_the_smallest_largest_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "CheckProcess", CheckInThisProcess)
    path = exporter.export(make_model(ONE_LAYER), {}, tmp_path, ServingOptions(max_batch=1))
    assert json.loads((path / card.CARD).read_text())["max_batch"] == 1


class CheckInThisProcess(contextlib.nullcontext):
    def __enter__(self):
        return self

    def load(self, saved_model):
        self.saved_model = saved_model

    def outcome(self, cases, count):
        with np.load(cases) as file:
            assert {key.split("|")[1] for key in file} == {"1"}
            found = check.disagreements(tf.saved_model.load(str(self.saved_model)), self.saved_model, dict(file))
        return bool(found), "\n".join(found)


def requests_of(exported):
    """The warm-up, each request without the name of its model, which must be that of the export."""
    for record in tf.data.TFRecordDataset(str(exported.path / warmup.WARMUP)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "base"
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def test_the_warm_up_is_one_good_request_a_signature_and_size(plain, compiled):
    requests = list(requests_of(plain))
    sizes = []
    for name, inputs in requests:
        errors = plain.loaded.signatures[name](**constants(inputs))["error"].numpy()
        assert not b"".join(errors)
        sizes.append((name, len(errors)))
    assert sorted(sizes) == sorted(itertools.product(plain.loaded.signatures, (1, 2)))
    for (name, inputs), (other_name, other) in zip(requests, requests_of(compiled), strict=True):
        assert name == other_name and inputs.keys() == other.keys()
        assert all((inputs[key] == other[key]).all() for key in inputs)


def test_completion_takes_the_rounds_of_the_options():
    model, images = make_model(ONE_LAYER), np.zeros((2, 4, 5, 1), np.uint8)
    served = signatures(model, ServingOptions(completion_rounds=3))["complete"].function

    def rounds_as_images(images, mask, seeds, temperature, num_rounds, labels):
        return tf.zeros_like(images) + tf.cast(num_rounds, tf.uint8)[:, None, None, None]

    with mock.patch.object(model, "complete", rounds_as_images):
        np.testing.assert_array_equal(served(request(2, images=images, mask=images))["images"], images + 3)


def test_a_signature_is_traced_once(tmp_path):
    model = make_model(ONE_LAYER)
    options = ServingOptions()
    with mock.patch.object(model, "sample_prior", wraps=model.sample_prior) as sample:
        signature = signatures(model, options)["sample"]
        served = tf.function(signature.function, input_signature=[signature.inputs], autograph=False)
        exporter._save(model, {"serving_default": served}, tmp_path / "1", options)
    assert sample.call_count == 1


def test_the_check_finds_a_warm_up_that_fails(plain, tmp_path):
    """In a fresh process, as every export does."""
    path = tmp_path / "1"
    shutil.copytree(plain.path, path)
    records = list(tf.data.TFRecordDataset(str(path / warmup.WARMUP)).as_numpy_iterator())
    log = prediction_log_pb2.PredictionLog.FromString(records[0])
    log.predict_log.request.model_spec.signature_name = "sample"
    log.predict_log.request.ClearField("inputs")
    for name, values in request(2, temperature=np.float32([1.0, np.nan])).items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    warmup.write([log.SerializeToString()], path)
    refused = r"signatures differ: .*\n.*request 0, sample: .*temperature must be in"
    with check_process.CheckProcess() as process, pytest.raises(RuntimeError, match=refused):
        exporter.check(process, {}, path)


def test_a_check_that_cannot_run_says_why(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no TensorFlow here >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with check_process.CheckProcess() as process:
        process._process.wait()
        process.load(tmp_path)
        assert process.outcome(tmp_path / "cases.npz", print) == (3, "no TensorFlow here\n")


def test_a_warm_up_names_the_package_that_it_needs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ValueError, match=r"pip install 'pixelvae_tf\[serving\]'"):
        exporter.export(make_model(ONE_LAYER), {}, tmp_path / "base", ServingOptions(warmup=(1,)))
    assert not list(tmp_path.iterdir())


def test_a_warm_up_is_no_longer_than_the_server_takes(tmp_path):
    options = ServingOptions(max_batch=1000, warmup=tuple(range(1, 1001)))
    with pytest.raises(ValueError, match=r"warmup must be at most \d+ batch sizes: .* Received: 1000 sizes"):
        exporter.export(make_model(ONE_LAYER), {}, tmp_path / "base", options)
    assert not list(tmp_path.iterdir())


def batching_parameters():
    """The message of session_bundle_config.proto, which the package of the messages leaves out."""
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    kinds = descriptor_pb2.FieldDescriptorProto
    wrapped = {"max_batch_size": 1, "batch_timeout_micros": 2, "max_enqueued_batches": 3, "num_batch_threads": 4}
    for name, number in wrapped.items():
        field = message.field.add(name=name, number=number, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_OPTIONAL)
        field.type_name = ".google.protobuf.Int64Value"
    message.field.add(name="allowed_batch_sizes", number=6, type=kinds.TYPE_INT64, label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))()


@pytest.mark.parametrize(
    ("options", "allowed"),
    [(ServingOptions(), []), (ServingOptions(64, (16, 1, 16)), [1, 16, 64]), (ServingOptions(8, (8,)), [8])],
)
def test_the_servers_files_parse(tmp_path, options, allowed):
    name = 'digits "of" scikit-learn'
    (tmp_path / name).mkdir()
    bases = [tmp_path / name, serving_config.xla_variant(tmp_path / name)]
    serving_config.write(bases, options)
    text = (tmp_path / name / "models.config").read_text()
    models = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert [(model.name, model.base_path, model.model_platform) for model in models] == [
        (base.name, f"/models/{base.name}", "tensorflow") for base in bases
    ]
    batching = text_format.Parse((tmp_path / name / "batching_parameters.txt").read_text(), batching_parameters())
    assert batching.max_batch_size.value == options.max_batch
    assert list(batching.allowed_batch_sizes) == allowed
    for field in ("batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        assert getattr(batching, field).value >= 1


def test_the_variant_stands_beside_the_model(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path / "base")
    for export_dir in (tmp_path / "base", ".", "../base/"):
        assert serving_config.model_name(export_dir) == "base"
        assert serving_config.xla_variant(export_dir).resolve() == tmp_path / "base_xla"
    for nothing in ("/", ""):
        with pytest.raises(ValueError, match="export_dir must have a name"):
            serving_config.model_name(nothing)
