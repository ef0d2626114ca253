"""Export: what is served equals the model, row by row; a request can spoil its own row only."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import run_command
from family import MODELS, make_model
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

import pixelvae_tf
from pixelvae_tf import bounds, pictures
from pixelvae_tf.config import Config, GatedPixelCNNConfig, LevelConfig, ModelConfig
from pixelvae_tf.export import card, exporter
from pixelvae_tf.export.signatures import signatures

SMALL = GatedPixelCNNConfig(num_layers=1, filters=6, kernel_size=3, first_kernel_size=3)
CONFIGS = {
    "latents": ModelConfig((6, 6, 1), 4, [LevelConfig(3, (4,), upsampling=True)], SMALL),
    "no_latents": ModelConfig((4, 5, 3), 256, [], SMALL),
}


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request, tmp_path_factory):
    """A model, its SavedModel and where it is."""
    config = Config(model=CONFIGS[request.param])
    model = pixelvae_tf.build(config)
    params = model.network.layers[-1]
    params.g.assign(2.0 * params.g)
    path = exporter.export(model, card.make_card(config, "best", 3), tmp_path_factory.mktemp("models") / "base")
    return model, tf.saved_model.load(str(path)), path


@pytest.fixture
def with_latents(exported):
    if not exported[0].num_levels:
        pytest.skip("this model has no latents")
    return exported


def seeds(*values):
    return tf.constant(values, tf.int64)


def test_signatures_are_as_designed(exported):
    model, loaded, _ = exported
    outputs = {name: set(function.structured_outputs) for name, function in loaded.signatures.items()}
    inputs = {name: set(function.structured_input_signature[1]) for name, function in loaded.signatures.items()}
    if model.num_levels:
        assert inputs == {
            "encode": {"images"},
            "serving_default": {"images"},
            "sample": {"seed", "temperature"},
            "sample_by_level": {"seed_z1", "seed_pixels", "temperature"},
            "decode": {"z1", "seed", "temperature"},
            "complete": {"images", "mask", "seed", "temperature"},
            "log_prob": {"images", "seed"},
        }
        assert outputs["serving_default"] == outputs["encode"] == {"z1_mean", "z1_stddev", "error"}
        assert outputs["log_prob"] == {"elbo_nats", "reconstruction_nats", "kl_nats", "error"}
    else:
        assert inputs == {
            "serving_default": {"seed", "temperature"},
            "sample": {"seed", "temperature"},
            "complete": {"images", "mask", "seed", "temperature"},
            "log_prob": {"images", "seed"},
        }
        assert outputs["log_prob"] == {"log_prob_nats", "error"}
    for function in loaded.signatures.values():
        for spec in (*function.structured_input_signature[1].values(), *function.structured_outputs.values()):
            assert spec.shape.rank >= 1 and spec.shape[0] is None, "the batch comes first everywhere"


def test_a_row_does_not_depend_on_its_neighbours(exported):
    model, loaded, _ = exported
    alone = loaded.signatures["sample"](seed=seeds(7), temperature=tf.ones(1))["images"]
    many = tf.concat([seeds(7), tf.range(100, 115, dtype=tf.int64)], axis=0)
    together = loaded.signatures["sample"](seed=many, temperature=tf.ones(16))["images"]
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone, model.sample(seeds(7)))
    assert (together[0].numpy() != together[1].numpy()).any()
    assert alone.dtype == tf.uint8


def test_bad_rows_fail_alone(exported):
    _, loaded, _ = exported
    temperature = tf.constant([1.0, 0.0, -1.0, np.nan, np.inf, 1e-38, 1.0])
    seed = seeds(*range(7))
    outputs = loaded.signatures["sample"](seed=seed, temperature=temperature)
    errors = [error.decode() for error in outputs["error"].numpy()]
    assert errors == ["", *["temperature must be in 1e-06..1e+06"] * 5, ""]
    good = loaded.signatures["sample"](seed=seed, temperature=tf.ones(7))["images"].numpy()
    np.testing.assert_array_equal(outputs["images"].numpy()[[0, 6]], good[[0, 6]])
    assert not outputs["images"].numpy()[1:6].any()


def test_bad_images_and_latents_fail_alone(with_latents):
    _, loaded, _ = with_latents
    images = np.zeros((3, 6, 6, 1), np.uint8)
    images[1, 2, 2] = 4  # values are 0..3
    for name, extra in (("encode", {}), ("log_prob", {"seed": seeds(1, 2, 3)})):
        outputs = loaded.signatures[name](images=tf.constant(images), **extra)
        assert [bool(error) for error in outputs["error"].numpy()] == [False, True, False]
        assert b"0..3" in outputs["error"].numpy()[1]
        for key, values in outputs.items():
            if key != "error":
                assert not values.numpy()[1].any() and values.numpy()[0].any() and np.isfinite(values).all()
    outputs = loaded.signatures["decode"](
        z1=tf.constant([[0.0, 1, 2], [0, np.nan, 0]]), seed=seeds(1, 2), temperature=tf.ones(2)
    )
    assert [bool(error) for error in outputs["error"].numpy()] == [False, True]


def test_completion_keeps_what_is_masked_and_fails_by_row(exported):
    model, loaded, _ = exported
    height, width, channels = model.config.image_shape
    generator = np.random.default_rng(0)
    images = generator.integers(0, 4, (4, height, width, channels)).astype(np.uint8)
    mask = generator.integers(0, 2, (4, height, width, 1)).astype(np.uint8)
    mask[3, 0, 0] = 2
    complete, seed = loaded.signatures["complete"], seeds(1, 2, 3, 4)
    temperature = tf.constant([1.0, 0.5, 1.0, 1.0])
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


@pytest.fixture(scope="module")
def hierarchy(tmp_path_factory):
    """A model of three levels, its SavedModel and where it is."""
    model = make_model("hierarchy_three_levels")
    path = exporter.export(
        model, card.make_card(Config(model=model.config), "best", 3), tmp_path_factory.mktemp("models") / "base"
    )
    return model, tf.saved_model.load(str(path)), path


def test_levels_are_served_with_their_own_seeds(hierarchy):
    model, loaded, _ = hierarchy
    by_level = loaded.signatures["sample_by_level"]
    assert set(by_level.structured_input_signature[1]) == {
        "seed_z3",
        "seed_z2",
        "seed_z1",
        "seed_pixels",
        "temperature",
    }
    z3, z2, z1, pixels = seeds(1, 2), seeds(3, 3), seeds(4, 5), seeds(6, 6)
    served = by_level(seed_z3=z3, seed_z2=z2, seed_z1=z1, seed_pixels=pixels, temperature=tf.ones(2))["images"]
    np.testing.assert_array_equal(served, model.sample(pixels, level_seeds=[z1, z2, z3]))
    same = by_level(seed_z3=z3, seed_z2=z3, seed_z1=z3, seed_pixels=z3, temperature=tf.ones(2))["images"]
    np.testing.assert_array_equal(same, loaded.signatures["sample"](seed=z3, temperature=tf.ones(2))["images"])
    encoded = loaded.signatures["encode"](images=served)
    # Batch normalisation is frozen: an image alone is encoded as among others, but for the order of sums.
    alone = loaded.signatures["encode"](images=served[1:])
    np.testing.assert_allclose(alone["z1_mean"], encoded["z1_mean"][1:], rtol=1e-4, atol=1e-5)
    assert [encoded[f"z{level}_mean"].shape for level in (1, 2, 3)] == [(2, 4, 4, 2), (2, 2, 2, 2), (2, 3)]
    assert loaded.signatures["log_prob"](images=served, seed=z3)["kl_nats"].shape == (2, 3)
    z1 = encoded["z1_mean"].numpy()
    z1[1, 2, 3, 0] = np.inf
    outputs = loaded.signatures["decode"](z1=tf.constant(z1), seed=z3, temperature=tf.ones(2))
    assert outputs["error"].numpy().tolist() == [b"", b"z1 must be finite"] and not outputs["images"][1].numpy().any()
    np.testing.assert_array_equal(outputs["images"][:1], model.decode([tf.constant(z1[:1])], z3[:1]))


@pytest.mark.parametrize("vary", ["top", "middle", "pixels"])
def test_the_command_draws_figure_6(hierarchy, tmp_path, vary):
    model, _, path = hierarchy
    output = tmp_path / "grid.png"
    arguments = [f"--saved_model={path}", f"--output={output}", "--num_images=9", "--scale=1", f"--vary={vary}"]
    status, _, errors = run_command("export.sample_main", *arguments, "--seed=5")
    assert status == 0, errors
    picture = np.asarray(Image.open(output)).reshape(3, 9, 3, 9, 3)[:, :8, :, :8].transpose(0, 2, 1, 3, 4)
    held = np.array([5, 6, 7])
    for column in range(3):
        varied = held if column == 0 else 5 + 9 + 3 * np.arange(3) + column
        z1, z2, z3 = (held, held, varied) if vary == "top" else (varied, varied, held)
        pixels = held
        if vary == "pixels":
            z1, z2, pixels = held, held, varied
        level_seeds = [tf.constant(level, tf.int64) for level in (z1, z2, z3)]
        drawn = model.sample(tf.constant(pixels, tf.int64), level_seeds=level_seeds).numpy()
        expected = pictures.tile(drawn, 8, columns=1).reshape(3, 9, 9, 3)[:, :8, :8]
        np.testing.assert_array_equal(picture[:, column], expected)


def test_what_a_model_cannot_vary_is_named(with_latents, tmp_path):
    arguments = [f"--saved_model={with_latents[2]}", f"--output={tmp_path / 'grid.png'}"]
    assert run_command("export.sample_main", *arguments, "--vary=top", "--num_images=2")[0] == 0
    status, _, errors = run_command("export.sample_main", *arguments, "--vary=middle")
    assert status != 0 and "pixelvae-sample: vary must be left out for a model without latents" in errors
    assert "Received: middle for 1 levels" in errors and "Traceback" not in errors


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in MODELS] + ["pixel_vae_pp"])
def test_every_model_of_the_family_is_exported_and_checked(name, tmp_path):
    """`export` compares all signatures with the model's, in a fresh process."""
    assert exporter.export(make_model(name), {}, tmp_path) == tmp_path / "1"


def test_a_class_is_an_input_of_everything_but_encode(tmp_path):
    model = make_model("pixel_vae_classes")
    loaded = tf.saved_model.load(str(exporter.export(model, {}, tmp_path)))
    inputs = {name: set(function.structured_input_signature[1]) for name, function in loaded.signatures.items()}
    assert {name for name, names in inputs.items() if "label" not in names} == {"encode", "serving_default"}
    seed, label = seeds(1, 2, 3, 4), tf.constant([2, 3, -1, 0], tf.int64)
    outputs = loaded.signatures["sample"](seed=seed, temperature=tf.ones(4), label=label)
    assert [error.decode() for error in outputs["error"].numpy()] == ["", *["label must be in 0..2"] * 2, ""]
    good = [0, 3]
    expected = model.sample(tf.gather(seed, good), labels=tf.gather(label, good))
    np.testing.assert_array_equal(outputs["images"].numpy()[good], expected)
    assert not outputs["images"].numpy()[1:3].any()
    labels = tf.constant([0, 1, 2, 0], tf.int64)
    bound = loaded.signatures["log_prob"](images=outputs["images"], seed=seed, label=labels)["elbo_nats"]
    # The same arithmetic as another graph: float32 rounding of sums of 20 terms.
    np.testing.assert_allclose(bound, bounds.elbo(model, outputs["images"], seed, labels=labels).elbo_nats, rtol=1e-5)


@pytest.mark.parametrize(
    "inputs",
    [
        {"seed": tf.constant([1], tf.int64), "temperature": tf.ones(2)},
        {"seed": tf.constant([1, 2], tf.int64), "temperature": tf.ones(1)},
        {"seed": tf.constant([1], tf.int32), "temperature": tf.ones(1)},
        {"seed": tf.constant([[1]], tf.int64), "temperature": tf.ones(1)},
        {"seed": tf.constant([1], tf.int64)},
    ],
)
def test_wrong_shapes_dtypes_and_names_raise(exported, inputs):
    with pytest.raises((ValueError, TypeError, tf.errors.InvalidArgumentError)):
        exported[1].signatures["sample"](**inputs)


def test_served_numbers_are_the_models(with_latents):
    model, loaded, _ = with_latents
    images = np.random.default_rng(0).integers(0, 4, (5, 6, 6, 1)).astype(np.uint8)
    encoded = loaded.signatures["encode"](images=tf.constant(images))
    posterior = model.posterior(images)[0]
    # Same arithmetic, compiled as another graph: float32 rounding.
    np.testing.assert_allclose(encoded["z1_mean"], posterior.mean(), atol=1e-5)
    np.testing.assert_allclose(encoded["z1_stddev"], posterior.stddev(), rtol=1e-5)
    decoded = loaded.signatures["decode"](
        z1=encoded["z1_mean"], seed=tf.range(5, dtype=tf.int64), temperature=tf.ones(5)
    )
    np.testing.assert_array_equal(decoded["images"], model.decode([encoded["z1_mean"]], tf.range(5, dtype=tf.int64)))
    outputs = loaded.signatures["log_prob"](images=tf.constant(images), seed=tf.range(5, dtype=tf.int64))
    np.testing.assert_allclose(
        outputs["elbo_nats"],
        -outputs["reconstruction_nats"] - tf.reduce_sum(outputs["kl_nats"], axis=1),
        rtol=1e-6,
    )


def test_it_runs_where_users_run_it(exported, tmp_path):
    """As a Keras layer and inside a tf.data pipeline."""
    _, loaded, path = exported
    expected = loaded.signatures["sample"](seed=seeds(5, 6), temperature=tf.ones(2))["images"]
    layer = keras.layers.TFSMLayer(str(path), call_endpoint="sample")
    np.testing.assert_array_equal(layer({"seed": seeds(5, 6), "temperature": tf.ones(2)})["images"], expected)
    pipeline = tf.data.Dataset.from_tensor_slices([[5], [6]]).map(
        lambda seed: loaded.signatures["sample"](seed=tf.cast(seed, tf.int64), temperature=tf.ones(1))["images"]
    )
    np.testing.assert_array_equal(np.concatenate([images.numpy() for images in pipeline]), expected)


def test_a_stock_server_can_run_it(exported):
    """No Python, no XLA, no resource beside the weights."""
    saved = saved_model_pb2.SavedModel.FromString((exported[2] / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    functions = graph.library.function
    operations = {node.op for node in graph.node} | {node.op for function in functions for node in function.node_def}
    assert not {op for op in operations if "PyFunc" in op or "Xla" in op}
    assert not any("_XlaMustCompile" in function.attr for function in functions)
    assert not {op for op in operations if op.startswith(("Random", "StatelessRandom", "HashTable"))}


def test_versions_count_up_and_hold_a_card(tmp_path):
    config = Config(model=ModelConfig((3, 3, 1), 2, [], SMALL))
    model = pixelvae_tf.build(config)
    (tmp_path / "base" / "7").mkdir(parents=True)
    path = exporter.export(model, card.make_card(config, "latest", 12), tmp_path / "base")
    assert path == tmp_path / "base" / "8"
    assert sorted(child.name for child in (tmp_path / "base").iterdir()) == ["7", "8"]
    written = json.loads((path / card.CARD).read_text())
    assert written["step"] == 12 and written["config"]["model"]["num_values"] == 2


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    config = Config(model=ModelConfig((3, 3, 1), 2, [], SMALL))
    with pytest.raises(ValueError, match="export_dir must be a directory that can be written"):
        exporter.export(pixelvae_tf.build(config), {}, tmp_path / "file" / "base")


def test_the_check_finds_a_model_that_differs(with_latents):
    model, _, path = with_latents
    endpoints = {
        name: tf.function(signature.function, input_signature=[signature.inputs], autograph=False)
        for name, signature in signatures(model).items()
    }
    exporter.check(endpoints, path)
    bias = model.network.layers[-1].bias
    before = bias.numpy()
    try:
        bias.assign(before + np.linspace(0, 3, len(before)))
        with pytest.raises(RuntimeError, match=r"does not agree with the model:\n.*\bdiffers in "):
            exporter.check(endpoints, path)
    finally:
        bias.assign(before)


@pytest.mark.parametrize("name", ["pixel_vae_classes", "pixel_vae"])
def test_sample_command_needs_the_saved_model_alone(name, tmp_path):
    model, output = make_model(name), tmp_path / "grid.png"
    path = exporter.export(model, card.make_card(Config(model=model.config), "best", 3), tmp_path / "base")
    arguments = [f"--saved_model={path}", f"--output={output}", "--num_images=6", "--batch_size=4", "--scale=2"]
    status, _, errors = run_command("export.sample_main", *arguments)
    assert status == 0, errors
    height, width = model.config.image_shape[:2]
    # Three columns either way: those of the classes, or a grid that is about square.
    assert Image.open(output).size == (3 * (width + 1) * 2, 2 * (height + 1) * 2)
    status, _, errors = run_command("export.sample_main", *arguments, "--label=2")
    assert (status == 0) == (model.config.num_classes == 3), errors
    if model.config.num_classes:
        drawn = model.sample(tf.range(6, dtype=tf.int64), labels=tf.fill([6], 2)).numpy()
        grid = pictures.tile(drawn, model.config.num_values, scale=2)[..., 0]
        np.testing.assert_array_equal(np.asarray(Image.open(output)), grid)
        status, _, errors = run_command("export.sample_main", *arguments, "--label=3")
    assert status != 0 and "pixelvae-sample: label must be" in errors and "Traceback" not in errors
