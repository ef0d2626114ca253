"""What an export can be asked for: XLA, a largest batch, a warm-up, files to start a server with; and its card."""

import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from commands import run_command
from family import make_model
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from ml_collections import config_flags
from PIL import Image
from small_run import small_config
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from pixelvae_tf import data, pictures, presets, runs
from pixelvae_tf.config import Config
from pixelvae_tf.export import card, exporter, server, warmup
from pixelvae_tf.export.options import Options
from pixelvae_tf.export.signatures import signatures
from pixelvae_tf.train import trainer

MAX_BATCH = 7
WARMUP = exporter.CHECKED_BATCHES  # XLA compiles every size anew


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """{xla: a SavedModel of the same model}, the default and the one compiled by XLA."""
    model, folder = make_model("gated_pixel_cnn"), tmp_path_factory.mktemp("models")
    return {
        xla: exporter.export(model, {}, folder / f"base_{xla}", Options(MAX_BATCH, WARMUP, xla))
        for xla in (False, True)
    }


def functions_of(path):
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    (graph,) = [meta_graph.graph_def for meta_graph in saved.meta_graphs]
    return graph, list(graph.library.function)


def request(batch, **changes):
    inputs = {"seed": np.arange(batch), "temperature": np.ones(batch, np.float32)}
    return {name: tf.constant(values) for name, values in {**inputs, **changes}.items()}


def test_the_default_export_is_made_of_tensorflows_own_operations(variants):
    graph, functions = functions_of(variants[False])
    assert not [function.signature.name for function in functions if "_XlaMustCompile" in function.attr]
    operations = {node.op for nodes in (graph.node, *(f.node_def for f in functions)) for node in nodes}
    # A function may be called by its name, as an operation.
    operations -= {function.signature.name for function in functions}
    assert operations and not {op for op in operations if "PyFunc" in op or "Xla" in op}
    # Python wrappers are generated for what the wheel registers, and `tf.load_op_library` adds none to them.
    assert not {op for op in operations if not hasattr(tf.raw_ops, op)}


def test_the_variant_is_compiled_and_draws_the_same_images(variants):
    compiled = [f for f in functions_of(variants[True])[1] if f.attr["_XlaMustCompile"].b]
    assert compiled
    # What XLA cannot do stays outside.
    assert not [
        node for function in compiled for node in function.node_def if node.attr["T"].type == tf.string.as_datatype_enum
    ]
    loaded = {xla: tf.saved_model.load(str(path)) for xla, path in variants.items()}
    drawn = {xla: model.signatures["sample"](**request(MAX_BATCH))["images"] for xla, model in loaded.items()}
    # Rounding decides about 1e-5 of the pixels in float32; here are 210.
    np.testing.assert_array_equal(drawn[True], drawn[False])


def test_a_variant_in_parts_draws_the_same_images():
    """In this process: `test_xla.py` has the parts, and a SavedModel of them has nothing else."""
    model = make_model("gated_pixel_cnn")
    whole, parts = (
        signatures(model, options)["sample"].function for options in (Options(), Options(xla=True, xla_parts=2))
    )
    np.testing.assert_array_equal(whole(request(5))["images"], parts(request(5))["images"])


@pytest.mark.parametrize("xla", [False, True])
def test_an_empty_batch_and_one_above_the_largest_are_refused(variants, xla):
    sample = tf.saved_model.load(str(variants[xla])).signatures["sample"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"must be at most {MAX_BATCH}, the max_batch"):
        sample(**request(MAX_BATCH + 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="the first dimension of seed must be at least 1"):
        sample(**request(0))
    assert not b"".join(sample(**request(MAX_BATCH))["error"].numpy())


def test_xlas_numbers_are_held_against_the_models():
    model, options = make_model("gated_pixel_cnn_one_pixel"), Options(xla=True)
    with mock.patch("pixelvae_tf.xla.compiled", lambda function, parts: lambda **inputs: _halved(function(**inputs))):
        wrong = {name: signature.function for name, signature in signatures(model, options).items()}
    right = signatures(model, Options())
    endpoints = {
        name: tf.function(wrong[name], input_signature=[right[name].inputs], autograph=False) for name in wrong
    }
    cases = exporter._cases(endpoints, {2}, exporter._without_xla(model, options))
    request = {key.rpartition("|")[2]: value for key, value in cases.items() if key.startswith("log_prob|2|in|")}
    expected = right["log_prob"].function({key: tf.constant(value) for key, value in request.items()})
    np.testing.assert_array_equal(cases["log_prob|2|out|log_prob_nats"], expected["log_prob_nats"])
    assert expected["log_prob_nats"][0] < -1.0, "half of it must be something else"
    assert not exporter._without_xla(model, Options())


def _halved(outputs):
    return {name: values / 2 if values.dtype.is_floating else values for name, values in outputs.items()}


@pytest.mark.parametrize(
    "options", [Options(), Options(1), Options(3), *(Options(9, xla=True, xla_parts=n) for n in (2, 6, 9))]
)
def test_the_check_cuts_a_batch_where_the_variant_does(options):
    sizes = exporter.checked_batches(options)
    assert max(sizes) >= options.xla_parts and all(1 <= size <= options.max_batch for size in sizes)
    assert len(sizes) >= min(2, options.max_batch)


def test_the_check_holds_for_the_smallest_largest_batch(tmp_path):
    path = exporter.export(make_model("gated_pixel_cnn_one_pixel"), {}, tmp_path, Options(max_batch=1))
    assert json.loads((path / card.CARD).read_text())["max_batch"] == 1


@pytest.mark.parametrize("xla", [False, True])
def test_the_warm_up_is_one_good_request_a_signature_and_size(variants, xla):
    loaded = tf.saved_model.load(str(variants[xla]))
    found = []
    for record in tf.data.TFRecordDataset(str(variants[xla] / warmup.WARMUP)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        sent = log.predict_log.request
        assert sent.model_spec.name == f"base_{xla}"
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in sent.inputs.items()}
        errors = loaded.signatures[sent.model_spec.signature_name](**inputs)["error"].numpy()
        assert not b"".join(errors)
        found.append((sent.model_spec.signature_name, len(errors)))
    assert sorted(found) == sorted(itertools.product(loaded.signatures, WARMUP))


def test_a_signature_is_traced_once(tmp_path):
    model = make_model("gated_pixel_cnn")
    with mock.patch.object(model, "sample", wraps=model.sample) as sample:
        endpoints = {
            name: tf.function(signature.function, input_signature=[signature.inputs], autograph=False)
            for name, signature in signatures(model, Options()).items()
            if name == "sample"
        }
        exporter._save(model, endpoints, tmp_path / "1")
    assert sample.call_count == 1


def test_the_check_finds_a_warm_up_that_fails(variants):
    records = list(tf.data.TFRecordDataset(str(variants[False] / warmup.WARMUP)).as_numpy_iterator())
    log = prediction_log_pb2.PredictionLog.FromString(records[0])
    log.predict_log.request.model_spec.signature_name = "sample"
    log.predict_log.request.ClearField("inputs")
    for name, values in request(2, temperature=np.float32([1.0, np.nan])).items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    try:
        warmup.write([*records, log.SerializeToString()], variants[False])
        with pytest.raises(RuntimeError, match=f"request {len(records)}, sample: .*temperature must be in"):
            exporter.check({}, variants[False])
    finally:
        warmup.write(records, variants[False])


def test_a_warm_up_names_the_package_that_it_needs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ValueError, match=r"pip install 'pixelvae_tf\[serving\]'"):
        exporter.export(make_model("gated_pixel_cnn_one_pixel"), {}, tmp_path / "base", Options(warmup=(1,)))
    assert not list(tmp_path.iterdir())


def test_a_warm_up_is_no_longer_than_the_server_takes(tmp_path):
    options = Options(max_batch=1000, warmup=tuple(range(1, 1001)))
    with pytest.raises(ValueError, match=r"warmup must be at most \d+ batch sizes: .* Received: 1000 sizes"):
        exporter.export(make_model("gated_pixel_cnn_one_pixel"), {}, tmp_path / "base", options)
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
    [(Options(), []), (Options(64, (16, 1, 16)), [1, 16, 64]), (Options(8, (8,)), [8])],
)
def test_the_servers_files_parse(tmp_path, options, allowed):
    name = 'digits "of" scikit-learn'
    (tmp_path / name).mkdir()
    bases = [tmp_path / name, server.xla_variant(tmp_path / name)]
    server.write(bases, options)
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
        assert server.model_name(export_dir) == "base"
        assert server.xla_variant(export_dir).resolve() == tmp_path / "base_xla"
    for nothing in ("/", ""):
        with pytest.raises(ValueError, match="export_dir must have a name"):
            server.model_name(nothing)


def parsed(command):
    """The config that a `pixelvae-train` command has."""
    argv, values = shlex.split(command), flags.FlagValues()
    config = config_flags.DEFINE_config_dataclass("config", Config(), parse_fn=presets.get, flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    with mock.patch.object(sys, "argv", argv):  # where config_flags looks for fields of lists
        assert values(argv) == ["pixelvae-train"]
    return config.value, values.workdir


def test_every_preset_is_its_own_command():
    for name in presets.names():
        config, workdir = parsed(presets.command_for(presets.get(name), "runs/a b"))
        assert config == presets.get(name) and workdir == "runs/a b"


def test_the_command_of_a_run_gives_its_config():
    config = small_config(
        "digits/hierarchical", steps=3, rematerialize=True, learning_rate=1e-5, dtype="mixed_bfloat16"
    )
    config.data.folder, config.data.name = "some images/it's", ""
    config.model.levels[1].filters, config.model.image_shape = (5, 6), (8, 8, 3)
    command = presets.command_for(config, "runs/x")
    assert parsed(command) == (config, "runs/x")
    assert command.startswith("pixelvae-train --config=digits/hierarchical ")


def test_a_config_that_no_flags_make_has_no_command():
    config = presets.get("digits/gated_pixel_vae")
    config.model.levels = config.model.levels * 4
    assert presets.command_for(config, "runs/x") is None
    config = presets.get("digits/hierarchical")
    config.model.pixels = presets.get("digits/gated_pixel_vae").model.pixels
    config.model.levels[0].prior = presets.get("digits/row_lstm").model.pixels
    assert presets.command_for(config, "runs/x") is None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run after another, evaluated, and what pixelvae-evaluate printed."""
    folder, one_device = tmp_path_factory.mktemp("runs"), trainer.make_strategy("one_device")
    trainer.train_and_evaluate(small_config(steps=4), folder / "before", one_device)
    workdir, config = folder / "small", small_config(steps=2, initial_weights=str(folder / "before"))
    trainer.train_and_evaluate(config, workdir, one_device)
    status, out, errors = run_command("train.evaluate_main", f"--workdir={workdir}", "--importance_samples=3")
    assert status == 0, errors
    return workdir, json.loads(out)


def test_where_the_variant_cannot_be_written_nothing_is_published(run, tmp_path):
    (tmp_path / "base_xla").write_text("not a directory")
    status, out, errors = run_command(
        "export.main", f"--workdir={run[0]}", f"--export_dir={tmp_path / 'base'}", "--xla"
    )
    assert status == 1 and not out and "export_dir must be a directory that can be written" in errors
    assert str(tmp_path / "base_xla") in errors and not list((tmp_path / "base").iterdir())


def test_a_hung_up_export_leaves_nothing(run, tmp_path):
    script = (
        "import os, signal\n"
        "from pixelvae_tf.export import exporter, main\n"
        "exporter.check = lambda *arguments: os.kill(os.getpid(), signal.SIGHUP)\n"
        "main.run()\n"
    )
    command = [sys.executable, "-c", script, f"--workdir={run[0]}", f"--export_dir={tmp_path / 'base'}"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 128 + signal.SIGHUP, outcome.stderr
    assert not list((tmp_path / "base").iterdir())


def test_an_evaluation_is_left_in_the_workdir(run):
    workdir, report = run
    model, _, step = runs.load(workdir)
    assert report["step"] == step == 2 and report["fingerprint"] == runs.fingerprint(model)
    assert runs.read_evaluations(workdir, report["fingerprint"]) == [report]
    assert runs.read_evaluations(workdir, "of other weights") == []
    images = data.load(small_config().data, "test").fingerprint()
    name = f"digits_test_{images:08x}_2_k3_{report['fingerprint'][:8]}.json"
    assert [path.name for path in (workdir / runs.EVALUATIONS).iterdir()] == [name]


def test_a_fingerprint_is_of_all_weights_and_of_nothing_else(run):
    model = runs.load(run[0])[0]
    before = runs.fingerprint(model)
    assert before == runs.fingerprint(runs.load(run[0])[0]) and re.fullmatch("[0-9a-f]{16}", before)
    for weight in runs.weights_of(model).values():
        value = weight.numpy()
        changed = value.copy()
        changed.flat[-1] += 1
        weight.assign(changed)
        assert runs.fingerprint(model) != before
        weight.assign(value)
    assert runs.fingerprint(model) == before


@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_command_writes_card_and_files(run, tmp_path, xla):
    workdir, report = run
    base = tmp_path / "small digits"
    # Small sizes: the check tries 2 and the largest, and XLA compiles each anew.
    arguments = [f"--workdir={workdir}", f"--export_dir={base}", "--max_batch=3", "--warmup=2,1"]
    arguments += ["--xla"] if xla else []
    status, out, errors = run_command("export.main", *arguments)
    assert status == 0, errors
    assert out == "".join(f"exported and checked: {base}{variant}/1\n" for variant in ("", "_xla")[: 1 + xla])
    if xla:
        compiled = json.loads((tmp_path / "small digits_xla" / "1" / card.CARD).read_text())
        assert compiled["xla"] and compiled["signatures"].keys() >= {"encode", "decode", "complete", "sample_by_level"}
    assert {path.name for path in base.iterdir()} == {"1", server.MODELS, server.BATCHING}
    written = json.loads((base / "1" / card.CARD).read_text())
    assert written["evaluations"] == [report] and written["max_batch"] == 3 and written["warmup"] == [1, 2]
    assert written["fingerprint"] == report["fingerprint"] and written["step"] == 2 and written["name"] == base.name
    assert written["data"] == {"name": "digits", "binarization": report["binarization"]}
    assert parsed(written["commands"]["train"]) == (runs.read_config(workdir), str(workdir))
    assert shlex.split(written["commands"]["export"]) == ["pixelvae-export", *arguments]
    assert written["signatures"]["sample"]["inputs"]["temperature"] == {"dtype": "float32", "shape": [None]}
    (training,) = written["lineage"]
    assert training["step"] == 4 and training["fingerprint"] != written["fingerprint"]
    assert parsed(training["command"]) == (runs.read_config(workdir.parent / "before"), str(workdir.parent / "before"))
    page = (base / "1" / card.PAGE).read_text()
    for fact in (
        training["command"],
        "first to last: give each a workdir of its own",
        f"best weights (step 4, fingerprint {training['fingerprint']}) of",
        "digits/test",
        report["binarization"],
        f"{report['bound_nats']:.2f} ± {report['bound_standard_error']:.2f}",
        f"| 3 | {report['importance_weighted_nats']:.2f}",
        f"{written['num_weights']:,}, fingerprint {report['fingerprint']}",
        f"tensorflow {tf.__version__}",
        written["commands"]["train"],
        written["commands"]["export"],
        "images uint8 [B, 8, 8, 1]",
    ):
        assert fact in page


def test_sampling_keeps_within_the_largest_batch(tmp_path):
    model, options = make_model("gated_pixel_cnn"), Options(max_batch=4, completion_rounds=3)
    path = exporter.export(model, card.make_card(Config(model=model.config), "best", 3), tmp_path / "base", options)
    arguments = [f"--saved_model={path}", "--num_images=9", "--scale=1", f"--output={tmp_path / 'grid.png'}"]
    status, _, errors = run_command("export.sample_main", *arguments)
    assert status == 0, errors
    expected = pictures.tile(model.sample(tf.range(9, dtype=tf.int64)).numpy(), 2, scale=1)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), np.squeeze(expected))
    assert "| rounds of completion | 0 |" in (path / card.PAGE).read_text(), "without latents there are none"

    for damaged, message in (
        ("saved_model.pb", "pixelvae-sample: saved_model must be whole."),
        (card.CARD, f"pixelvae-sample: {card.CARD} must have a config that this version knows."),
    ):
        (path / damaged).write_bytes((path / damaged).read_bytes()[:100])
        status, _, errors = run_command("export.sample_main", *arguments)
        assert status == 1 and message in errors and "Traceback" not in errors


def test_a_card_holds_evaluations_of_its_weights_alone(run, tmp_path):
    workdir, report = run
    other = {**report, "data": "digits from photos/test", "fingerprint": "0" * 16}
    path, of_namesake = (runs.write_evaluation(other, workdir, images) for images in (1, 2))
    assert path != of_namesake and json.loads(path.read_text()) == json.loads(of_namesake.read_text()) == other
    of_namesake.unlink()
    try:
        model, config, step = runs.load(workdir)
        found = runs.read_evaluations(workdir, runs.fingerprint(model))
        assert found == [report]
        of_both = card.page(about(model, config, step, [report, other]))
        assert "| digits/test |" in of_both and "| digits from photos/test |" in of_both
        none = card.page(about(model, config, step, []))
        assert "Not evaluated; run `pixelvae-evaluate --workdir=runs/x` and export again." in none
    finally:
        path.unlink()


def about(model, config, step, evaluations):
    commands = {"train": None, "evaluate": "pixelvae-evaluate --workdir=runs/x", "export": "pixelvae-export"}
    known = card.make_card(config, "best", step, evaluations, commands)
    return {"name": "base", **known, **card.describe(model, {}, Options())}


def test_a_report_that_is_damaged_is_named(run, tmp_path):
    workdir, _ = run
    path = workdir / runs.EVALUATIONS / "torn.json"
    path.write_text('{"data": ')
    try:
        status, _, errors = run_command("export.main", f"--workdir={workdir}", f"--export_dir={tmp_path / 'base'}")
        assert status != 0 and "pixelvae-export: evaluations of workdir must hold" in errors and "torn.json" in errors
        assert "Traceback" not in errors
    finally:
        path.unlink()
