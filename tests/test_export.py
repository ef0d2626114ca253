"""Export: what is served equals the model, row by row; a wrong row spoils itself alone."""

import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from exports import CHECKED, ONE_LAYER
from family import MODELS, make_model
from tensorflow.core.protobuf import saved_model_pb2

from pixelvae_tf import bounds
from pixelvae_tf.export import check, examples, exporter
from pixelvae_tf.export.check import DISAGREES
from pixelvae_tf.export.signatures import signatures

WITH_LATENTS, WITHOUT, THREE_LEVELS = "gated_pixel_vae", "gated_pixel_cnn_embedded", "three_levels_and_classes"


@pytest.fixture
def with_latents(export):
    return export(WITH_LATENTS)


@pytest.fixture
def three_levels(export):
    """Three levels of latents and three classes."""
    return export(THREE_LEVELS)


def seeds(*values):
    return tf.constant(values, tf.int64)


def endpoint(model, name):
    """A signature of the model as `export` traces it."""
    signature = signatures(model)[name]
    return tf.function(signature.function, input_signature=[signature.inputs], autograph=False)


@pytest.mark.parametrize("name", [WITH_LATENTS, WITHOUT])
def test_signatures_are_as_designed(export, name):
    signatures = export(name).loaded.signatures
    outputs = {name: set(function.structured_outputs) for name, function in signatures.items()}
    inputs = {name: set(function.structured_input_signature[1]) for name, function in signatures.items()}
    if name == WITH_LATENTS:
        assert inputs == {
            "encode": {"images"},
            "serving_default": {"images"},
            "sample": {"seed", "temperature"},
            "sample_by_level": {"seed_z1", "seed_pixels", "temperature"},
            "decode": {"z1", "seed", "temperature"},
            "complete": {"images", "mask", "seed", "temperature"},
            "complete_in_rounds": {"images", "mask", "seed", "temperature", "rounds"},
            "log_prob": {"images", "seed"},
        }
        assert outputs["serving_default"] == outputs["encode"] == {"z1_mean", "z1_stddev", "error"}
        assert outputs["log_prob"] == {"log_prob", "reconstruction_nats", "kl_nats", "pixel_nats", "error"}
    else:
        assert inputs == {
            "serving_default": {"seed", "temperature"},
            "sample": {"seed", "temperature"},
            "complete": {"images", "mask", "seed", "temperature"},
            "log_prob": {"images", "seed"},
        }
        assert outputs["log_prob"] == {"log_prob", "pixel_nats", "error"}
    for function in signatures.values():
        for spec in (*function.structured_input_signature[1].values(), *function.structured_outputs.values()):
            assert spec.shape.rank >= 1 and spec.shape[0] is None, "the batch comes first everywhere"


@pytest.mark.parametrize("name", CHECKED)
def test_a_saved_model_answers_as_the_model_does(export, name):
    """What the check of an export compares, compared in this process."""
    exported = export(name)
    assert {key.split("|")[0] for key in exported.cases} == set(exported.loaded.signatures)
    assert check.disagreements(exported.loaded, exported.path, exported.cases) == []
    errors = exported.cases["sample|2|out|error"]
    assert errors.tolist() == [b"", b"temperature must be in 1e-06..1e+06"], "a wrong row is compared too"


def test_a_loaded_model_takes_its_inputs_as_one_types_them(with_latents):
    images = np.random.default_rng(0).integers(0, 4, (3, *with_latents.model.config.image_shape)).astype(np.uint8)
    loaded = with_latents.loaded
    expected = loaded.signatures["encode"](images=tf.constant(images))["z1_mean"]
    for answer in (
        loaded.encode(images=images),
        loaded.encode(images),
        loaded.encode({"images": tf.constant(images)}),
        loaded.serve(images),
        keras.layers.TFSMLayer(str(with_latents.path))(images),
        keras.layers.TFSMLayer(str(with_latents.path), call_endpoint="encode")({"images": images}),
    ):
        np.testing.assert_array_equal(answer["z1_mean"], expected)
    drawn = [
        loaded.sample(seed=[0, 1], temperature=[1.0, 1.0]),
        loaded.sample({"seed": tf.range(2, dtype=tf.int64), "temperature": tf.ones(2)}),
    ]
    for answer in drawn:
        np.testing.assert_array_equal(answer["images"], with_latents.model.sample(2))
    symbols = keras.Input(images.shape[1:], dtype="uint8")
    layer = keras.layers.TFSMLayer(str(with_latents.path), call_endpoint="encode")
    np.testing.assert_array_equal(keras.Model(symbols, layer(symbols)["z1_mean"])(images), expected)


def test_nothing_unfinished_is_published(export):
    path = export(WITH_LATENTS).path
    assert [path.name for path in path.parent.iterdir()] == ["1"]
    assert path.stat().st_mode & 0o777 == 0o755, "a server may run as another user"


def test_a_row_does_not_depend_on_its_neighbours(export):
    model, sample = export(WITHOUT).model, export(WITHOUT).loaded.signatures["sample"]
    alone = sample(seed=seeds(7), temperature=tf.ones(1))["images"]
    many = tf.concat([seeds(7), tf.range(100, 115, dtype=tf.int64)], axis=0)
    together = sample(seed=many, temperature=tf.ones(16))["images"]
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone, model.sample(seeds(7)))
    assert (together[0].numpy() != together[1].numpy()).any()
    assert alone.dtype == tf.uint8


def test_bad_rows_fail_alone(with_latents):
    sample = with_latents.loaded.signatures["sample"]
    temperature = tf.constant([1.0, 0.0, -1.0, np.nan, np.inf, 1e-38, 1.0])
    seed = seeds(*range(7))
    outputs = sample(seed=seed, temperature=temperature)
    errors = [error.decode() for error in outputs["error"].numpy()]
    assert errors == ["", *["temperature must be in 1e-06..1e+06"] * 5, ""]
    good = sample(seed=seed, temperature=tf.ones(7))["images"].numpy()
    np.testing.assert_array_equal(outputs["images"].numpy()[[0, 6]], good[[0, 6]])
    assert not outputs["images"].numpy()[1:6].any()


def test_bad_images_and_latents_fail_alone(with_latents):
    signatures = with_latents.loaded.signatures
    images = np.zeros((3, 7, 7, 1), np.uint8)
    images[1, 2, 2] = 4  # values are 0..3
    for name, extra in (("encode", {}), ("log_prob", {"seed": seeds(1, 2, 3)})):
        outputs = signatures[name](images=tf.constant(images), **extra)
        assert [bool(error) for error in outputs["error"].numpy()] == [False, True, False]
        assert b"0..3" in outputs["error"].numpy()[1]
        for key, values in outputs.items():
            if key != "error":
                assert not values.numpy()[1].any() and values.numpy()[0].any() and np.isfinite(values).all()
    outputs = signatures["decode"](
        z1=tf.constant([[0.0, 1, 2], [0, np.nan, 0]]), seed=seeds(1, 2), temperature=tf.ones(2)
    )
    assert [bool(error) for error in outputs["error"].numpy()] == [False, True]


@pytest.mark.parametrize("name", [WITH_LATENTS, WITHOUT])
def test_completion_keeps_what_is_masked_and_fails_by_row(export, name):
    model, complete = export(name).model, export(name).loaded.signatures["complete"]
    height, width, channels = model.config.image_shape
    generator = np.random.default_rng(0)
    images = generator.integers(0, 4, (4, height, width, channels)).astype(np.uint8)
    mask = generator.integers(0, 2, (4, height, width, 1)).astype(np.uint8)
    mask[3, 0, 0] = 2
    seed, temperature = seeds(1, 2, 3, 4), tf.constant([1.0, 0.5, 1.0, 1.0])
    outputs = complete(images=tf.constant(images), mask=tf.constant(mask), seed=seed, temperature=temperature)
    assert outputs["error"].numpy().tolist() == [b"", b"", b"", b"mask must hold 0 and 1"]
    assert not outputs["images"].numpy()[3].any() and outputs["images"].dtype == tf.uint8
    filled, known = outputs["images"].numpy()[:3], np.broadcast_to(mask, images.shape)[:3] > 0
    np.testing.assert_array_equal(filled[known], images[:3][known])
    assert (filled[~known] != images[:3][~known]).any()
    # What stands under 0 does not matter, nor do the neighbours.
    other = np.where(mask[:1] > 0, images[:1], 3 - images[:1]).astype(np.uint8)
    alone = complete(images=tf.constant(other), mask=tf.constant(mask[:1]), seed=seed[:1], temperature=temperature[:1])
    np.testing.assert_array_equal(alone["images"], filled[:1])
    np.testing.assert_array_equal(filled, model.complete(images[:3], mask[:3], seed[:3], temperature[:3]))


def test_rounds_of_completion_are_chosen_by_row(with_latents):
    model, complete = with_latents.model, with_latents.loaded.signatures["complete_in_rounds"]
    generator, rounds, seed = np.random.default_rng(0), [0, 3, 65, -1, 1, 8], seeds(*range(6))
    images = generator.integers(0, 4, (6, *model.config.image_shape)).astype(np.uint8)
    inputs = {"images": images, "mask": np.zeros((6, *model.config.image_shape[:2], 1), np.uint8), "seed": seed}
    constants = {name: tf.constant(value) for name, value in inputs.items()} | {"temperature": tf.ones(6)}
    outputs = complete(**constants, rounds=seeds(*rounds))
    assert outputs["error"].numpy().tolist() == [b"", b"", *[b"rounds must be in 0..64"] * 2, b"", b""]
    good = [0, 1, 4, 5]
    expected = model.complete(images[good], inputs["mask"][good], tf.gather(seed, good), num_rounds=[0, 3, 1, 8])
    np.testing.assert_array_equal(outputs["images"].numpy()[good], expected)
    # Those of the signature without a choice.
    of_export = with_latents.loaded.signatures["complete"](**constants)["images"].numpy()
    np.testing.assert_array_equal(outputs["images"].numpy()[5], of_export[5])
    assert (of_export[:2] != outputs["images"].numpy()[:2]).any(axis=(1, 2, 3)).all()


def test_levels_are_served_with_their_own_seeds(three_levels):
    model, signatures = three_levels.model, three_levels.loaded.signatures
    by_level = signatures["sample_by_level"]
    inputs = {"seed_z3", "seed_z2", "seed_z1", "seed_pixels", "temperature", "label"}
    assert set(by_level.structured_input_signature[1]) == inputs
    z3, z2, z1, pixels = seeds(1, 2), seeds(3, 3), seeds(4, 5), seeds(6, 6)
    rest = {"temperature": tf.ones(2), "label": seeds(2, 0)}
    drawn = by_level(seed_z3=z3, seed_z2=z2, seed_z1=z1, seed_pixels=pixels, **rest)
    served = drawn["images"]
    np.testing.assert_array_equal(served, model.sample(pixels, level_seeds=[z1, z2, z3], labels=[2, 0]))
    same = by_level(seed_z3=z3, seed_z2=z3, seed_z1=z3, seed_pixels=z3, **rest)
    sampled = signatures["sample"](seed=z3, **rest)
    np.testing.assert_array_equal(same["images"], sampled["images"])
    np.testing.assert_array_equal(same["z1"], sampled["z1"])
    # The latents that come with an image are those it was drawn from.
    again = signatures["decode"](z1=drawn["z1"], seed=pixels, **rest)
    np.testing.assert_array_equal(again["images"], served)
    encoded = signatures["encode"](images=served)
    # Batch normalisation is frozen: an image alone is encoded as among others, up to the order of sums.
    alone = signatures["encode"](images=served[1:])
    np.testing.assert_allclose(alone["z1_mean"], encoded["z1_mean"][1:], rtol=1e-4, atol=1e-5)
    assert [encoded[f"z{level}_mean"].shape for level in (1, 2, 3)] == [(2, 3, 2, 2), (2, 2, 1, 2), (2, 2)]
    bound = signatures["log_prob"](images=served, seed=z3, label=rest["label"])
    assert bound["kl_nats"].shape == (2, 3)
    # The same arithmetic as another graph: float32 rounding of sums of 20 terms.
    expected = bounds.elbo(model, served, z3, labels=rest["label"]).log_prob
    np.testing.assert_allclose(bound["log_prob"], expected, rtol=1e-5)
    for level, grid in enumerate([(3, 2), (2, 1)]):  # the third is a vector
        nats = bound[f"z{level + 1}_nats"]
        assert nats.shape == (2, *grid)
        np.testing.assert_allclose(tf.reduce_sum(nats, axis=(1, 2)), bound["kl_nats"][:, level], rtol=1e-4)
    assert "z3_nats" not in bound
    z1 = encoded["z1_mean"].numpy()
    z1[1, 2, 1, 0] = np.inf
    outputs = signatures["decode"](z1=tf.constant(z1), seed=z3, **rest)
    assert outputs["error"].numpy().tolist() == [b"", b"z1 must be finite"] and not outputs["images"][1].numpy().any()
    np.testing.assert_array_equal(outputs["images"][:1], model.decode([tf.constant(z1[:1])], z3[:1], labels=[2]))


def test_a_class_is_an_input_of_everything_but_encode(three_levels):
    model, signatures = three_levels.model, three_levels.loaded.signatures
    inputs = {name: set(function.structured_input_signature[1]) for name, function in signatures.items()}
    assert {name for name, names in inputs.items() if "label" not in names} == {"encode", "serving_default"}
    seed, label = seeds(1, 2, 3, 4), seeds(2, 3, -1, 0)
    outputs = signatures["sample"](seed=seed, temperature=tf.ones(4), label=label)
    assert [error.decode() for error in outputs["error"].numpy()] == ["", *["label must be in 0..2"] * 2, ""]
    good = [0, 3]
    expected = model.sample(tf.gather(seed, good), labels=tf.gather(label, good))
    np.testing.assert_array_equal(outputs["images"].numpy()[good], expected)
    assert not outputs["images"].numpy()[1:3].any()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_every_model_of_the_family_is_exported_and_checked(name, tmp_path):
    """`export` compares all signatures with the model's, in a fresh process."""
    assert exporter.export(make_model(name), {}, tmp_path) == tmp_path / "1"


def test_ranks_and_numbers_of_rows_are_checked_in_the_graph(with_latents):
    """A concrete function does not compare them with its signature; test_requests.py has the rest."""
    sample = with_latents.loaded.signatures["sample"]
    for seed, temperature in ((seeds([1]), tf.ones(1)), (seeds(1), tf.ones(2)), (seeds(1, 2), tf.ones(1))):
        with pytest.raises(tf.errors.InvalidArgumentError):
            sample(seed=seed, temperature=temperature)


def test_served_numbers_are_the_models(with_latents):
    model, signatures = with_latents.model, with_latents.loaded.signatures
    images = np.random.default_rng(0).integers(0, 4, (5, 7, 7, 1)).astype(np.uint8)
    encoded = signatures["encode"](images=tf.constant(images))
    posterior = model.posterior(images)[0]
    # Same arithmetic, compiled as another graph: float32 rounding.
    np.testing.assert_allclose(encoded["z1_mean"], posterior.mean(), atol=1e-5)
    np.testing.assert_allclose(encoded["z1_stddev"], posterior.stddev(), rtol=1e-5)
    seed = tf.range(5, dtype=tf.int64)
    decoded = signatures["decode"](z1=encoded["z1_mean"], seed=seed, temperature=tf.ones(5))
    np.testing.assert_array_equal(decoded["images"], model.decode([encoded["z1_mean"]], seed))
    outputs = signatures["log_prob"](images=tf.constant(images), seed=seed)
    np.testing.assert_allclose(
        outputs["log_prob"],
        -outputs["reconstruction_nats"] - tf.reduce_sum(outputs["kl_nats"], axis=1),
        rtol=1e-6,
    )
    np.testing.assert_allclose(outputs["pixel_nats"], model.nll_map(images, seed).pixel_nats, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        tf.reduce_sum(outputs["pixel_nats"], axis=(1, 2)), outputs["reconstruction_nats"], rtol=1e-4
    )


@pytest.mark.parametrize("name", [WITH_LATENTS, WITHOUT, THREE_LEVELS])
def test_a_stock_server_can_run_it(export, name):
    """TensorFlow's own operations alone: no Python, no XLA, no resource beside the weights."""
    saved = saved_model_pb2.SavedModel.FromString((export(name).path / "saved_model.pb").read_bytes())
    (graph,) = [meta_graph.graph_def for meta_graph in saved.meta_graphs]
    functions = graph.library.function
    assert not any("_XlaMustCompile" in function.attr for function in functions)
    operations = {node.op for nodes in (graph.node, *(f.node_def for f in functions)) for node in nodes}
    # A function may be called by its name, as an operation.
    operations -= {function.signature.name for function in functions}
    assert operations and not {op for op in operations if "PyFunc" in op or "Xla" in op}
    assert not {op for op in operations if op.startswith(("Random", "StatelessRandom", "HashTable"))}
    # Python wrappers are generated for what the wheel registers, and `tf.load_op_library` adds none to them.
    assert not {op for op in operations if not hasattr(tf.raw_ops, op)}


def test_versions_count_up(tmp_path, monkeypatch):
    for name in ("7", "x9", ".unfinished_a", ".unfinished_b"):
        (tmp_path / name).mkdir()
    assert exporter._rename_to_next_version(tmp_path / ".unfinished_a", tmp_path) == tmp_path / "8"
    rename = os.rename

    def be_late(unfinished, target):
        if target.name == "9":
            (target / "of another export").mkdir(parents=True)
        rename(unfinished, target)

    monkeypatch.setattr(os, "rename", be_late)
    assert exporter._rename_to_next_version(tmp_path / ".unfinished_b", tmp_path) == tmp_path / "10"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["10", "7", "8", "9", "x9"]


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ValueError, match="export_dir must be a directory that can be written"):
        exporter.export(make_model(ONE_LAYER), {}, tmp_path / "file" / "base")


def test_the_check_finds_a_model_that_differs(with_latents):
    model, loaded, path = with_latents.model, with_latents.loaded, with_latents.path
    others = ["complete", "complete_in_rounds", "decode", "encode", "sample", "sample_by_level", "serving_default"]
    missing = f"signatures differ: {others}"
    bias = model.network.layers[-1].bias
    before, log_prob = bias.numpy(), {"log_prob": endpoint(model, "log_prob")}
    assert check.disagreements(loaded, path, exporter._cases(log_prob, {2}, {})) == [missing]
    try:
        bias.assign(before + np.linspace(0, 3, len(before)))
        found = check.disagreements(loaded, path, exporter._cases(log_prob, {2}, {}))
    finally:
        bias.assign(before)
    differs = "log_prob, batch 2, {}: differs in 50.0% of its entries"  # the other row is spoilt, and zeros in both
    assert found[0] == missing
    assert set(found[1:]) == {differs.format(tensor) for tensor in ("log_prob", "pixel_nats", "reconstruction_nats")}


def test_the_check_looks_at_images_of_all_values():
    """A SavedModel that goes wrong beyond the first two would pass."""
    inputs = {name: tf.TensorSpec((None, 6, 7, 1), tf.uint8, name) for name in ("images", "mask")}
    request = examples.example(inputs, 4, num_values=256)
    assert len(np.unique(request["images"])) > 64 and set(np.unique(request["mask"])) == {0, 1}


def test_what_does_not_pass_the_check_is_not_published(tmp_path, monkeypatch):
    process = mock.MagicMock()
    process.return_value.__enter__.return_value.outcome.return_value = DISAGREES, "sample, batch 2, images: differs"
    monkeypatch.setattr(exporter, "CheckProcess", process)
    monkeypatch.setattr(exporter, "_cases", lambda *arguments: {})
    with pytest.raises(RuntimeError, match="does not agree with the model:\nsample, batch 2, images: differs"):
        exporter.export(make_model(ONE_LAYER), {}, tmp_path / "base")
    for status, ended in ((-9, "was ended by signal 9"), (1, "ended with status 1")):
        process.return_value.__enter__.return_value.outcome.return_value = status, "no memory"
        with pytest.raises(RuntimeError, match=f"check must be able to run. Received: its process {ended}:\nno"):
            exporter.export(make_model(ONE_LAYER), {}, tmp_path / "base")
    assert not list((tmp_path / "base").iterdir())
