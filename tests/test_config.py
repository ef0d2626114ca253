"""Configs and presets: data that survives JSON, and errors that name the field."""

import functools
import json

import pytest
import tensorflow as tf
from ml_collections.config_flags import config_path

from pixelvae_tf import config as config_lib
from pixelvae_tf import presets, runs
from pixelvae_tf.config import Config, LevelConfig, PixelCNNConfig, TrainConfig
from pixelvae_tf.models import PixelVAE


@pytest.mark.parametrize("name", presets.names())
def test_presets_survive_json_and_say_what_they_are(name):
    config = presets.get(name)
    config.validate()
    again = config_lib.from_json(config_lib.to_json(config))
    assert again == config and type(again.model.image_shape) is tuple
    assert presets.get(name) is not presets.get(name)
    description = presets.describe(name)
    assert len(description.summary) > 20
    assert any(words in description.expected for words in ("nats", "bits/dim", "no published number"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train.steps", 0, "train.steps must be at least 1"),
        ("train.learning_rate", -1.0, r"train.learning_rate must be at least 0\. Received: -1\.0"),
        ("train.learning_rate", float("nan"), "config.train.learning_rate must be a finite number"),
        ("train.learning_rate", float("inf"), "config.train.learning_rate must be a finite number"),
        ("train.steps", 10.5, r"config.train.steps must be a valid integer\. Received: 10\.5"),
        ("train.learning_rate", True, "config.train.learning_rate must be a valid number"),
        ("train.steps", True, "config.train.steps must be a valid integer. Received: True"),
        ("train", None, "config.train must be a dictionary or an instance of TrainConfig. Received: None"),
        ("model.num_values", "4", "config.model.num_values must be a valid integer. Received: '4'"),
        ("model.image_shape", 28, "config.model.image_shape must be a list. Received: 28"),
        ("model.pixels", "rnn", "config.model.pixels must be the config of a network. .*: 'rnn'"),
        ("model.pixels", None, "config.model.pixels must be the config of a .*. Received: None"),
        ("model.pixels.network", "row_lstm", "config.model.pixels must be .* RowLSTMConfig"),
        ("model.pixels.filters", 6.0, "config.model.pixels.filters must be a valid integer"),
        ("model.levels[0].filters", 6, r"config.model.levels\[0\].filters must be a list"),
        ("train.learning_rate_decay", "magic", "train.learning_rate_decay must be one of"),
        ("train.dtype", "int8", "train.dtype must be one of"),
        ("data.mutation", 1.5, r"data\.mutation must be at most 1\. Received: 1\.5"),
        ("data.mutation", float("nan"), r"data\.mutation must be "),
        ("train.learning_rate_drop_at", 1.5, r"train.learning_rate_drop_at must be at most 0\.9999999"),
        ("train.average_decay", 1.0, r"train.average_decay must be at most 0\.9999999"),
        ("model.num_values", 1, "model.num_values must be at least 2"),
        ("model.image_shape", (8, 8), r"model.image_shape\[2\] must be given\. Received: \(8, 8\)"),
        ("model.levels", [LevelConfig(filters=(32, 64))] * 2, "only the top level may be a vector"),
        ("model.pixels.dropout", 1.0, r"model.pixels.dropout must be at most 0\.9999999"),
        ("model.pixels.kernel_size", 4, "model.pixels.kernel_size must be odd"),
        ("model.pixels.first_kernel_size", 1, "model.pixels.first_kernel_size must be"),
        ("model.levels[0].dim", 0, r"model.levels\[0\].dim must be at least 1"),
        ("model.levels[0].filters", (), r"model.levels\[0\].filters must have at least 1 item"),
    ],
)
def test_what_makes_no_sense_is_named(field, value, message):
    config = presets.get("digits/gated_pixel_vae")
    config_path.set_value(field, config, value)
    with pytest.raises(ValueError, match=message):
        config.validate()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cifar10/gated_pixel_cnn", {"pixels.filters": 16}, "model.pixels.filters must be a multiple"),
        (
            "cifar10/row_lstm",
            {"pixels.output_filters": 64},
            "model.pixels.output_filters must be a multiple",
        ),
        ("digits/gated_pixel_vae", {"likelihood": "bernoulli"}, "model.likelihood must be categorical, quantized_norm"),
        ("digits/gated_pixel_vae", {"likelihood": "poisson"}, "model.likelihood must be one of auto, bernoulli"),
        ("digits/gated_pixel_vae", {"likelihood": "logistic_mixture"}, "model.num_mixtures must be at least 1 for"),
        ("digits/gated_pixel_vae", {"num_mixtures": 3}, "and 0 for every other. Received: num_mixtures=3"),
        ("digits/gated_pixel_vae", {"num_classes": 1}, "model.num_classes must be 0, or at least 2. Received: 1"),
        ("digits/vae", {"levels": []}, "model.pixels may be independent only below a level with"),
        (
            "cifar10/pixel_cnn_pp",
            {"likelihood": "auto", "num_mixtures": 0},
            "model.likelihood must be logistic_mixture",
        ),
        (
            "cifar10/pixel_cnn_pp",
            {"pixels.num_scales": 7},
            "the raster of model.pixels must have sides that are multiples of 64",
        ),
        ("cifar10/pixel_cnn_pp", {"pixels.num_blocks": 0}, "model.pixels.num_blocks must be at least 1. Received: 0"),
        ("mnist/pixel_cnn_pp", {"image_shape": (30, 28, 1)}, r"multiples of 4 .* Received: \(30, 28\)"),
    ],
)
def test_combinations_that_make_no_sense_are_named(name, changes, message):
    config = presets.get(name)
    for path, value in changes.items():
        *parents, field = path.split(".")
        setattr(functools.reduce(getattr, parents, config.model), field, value)
    with pytest.raises(ValueError, match=message):
        config.validate()
    with pytest.raises(ValueError, match=message):
        runs.build(config)


def test_lists_where_tuples_are_declared_are_the_same_run():
    config = presets.get("digits/gated_pixel_vae")
    config.model.image_shape, config.model.levels[0].filters = [8, 8, 1], list(config.model.levels[0].filters)
    there = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.differences(there, config) == []
    there.train.steps = 7
    assert config_lib.differences(there, config) == [("train.steps", 7, config.train.steps)]
    assert runs.build(config).sample(tf.range(2, dtype=tf.int64)).shape == (2, 8, 8, 1)


def test_a_field_that_does_not_exist_cannot_be_set():
    with pytest.raises(AttributeError, match="'TrainConfig' object has no attribute 'stepz'"):
        Config().train.stepz = 10
    with pytest.raises(ValueError, match=r"has no field 'stepz'; did you mean steps\?"):
        config_lib.TrainConfig(stepz=10)
    with pytest.raises(ValueError, match=r"^ModelConfig\.image_shape\[2\] must be given\. Received: \(8, 8\)$"):
        config_lib.ModelConfig((8, 8), 2)


def test_only_a_config_is_built():
    with pytest.raises(ValueError, match=r"config must be a Config, .*\. Received: 'digits/gated_pixel_vae'"):
        runs.build("digits/gated_pixel_vae")
    with pytest.raises(ValueError, match=r"config must be a ModelConfig\. Received: Config\("):
        PixelVAE(Config())


def test_a_model_keeps_a_config_of_its_own():
    """Or a field that is changed for the next model would change what this one says of itself."""
    config = presets.get("digits/vae")
    config.model.levels[0].grid = [1, 1]  # a list may stand for a tuple
    model = PixelVAE(config.model)
    config.model.levels[0].dim, config.model.num_classes = 99, 10
    assert model.config.levels[0].dim == model.levels[0].config.dim != 99
    assert model.config.num_classes == 0 and model.config.levels[0].grid == (1, 1)


def test_parts_of_a_config_may_be_plain_data():
    config = presets.get("digits/pixel_cnn")
    config.model.pixels, config.train = {"network": "pixel_cnn"}, {"steps": 7}
    checked = config.validate()
    assert (checked.model.pixels, checked.train) == (PixelCNNConfig(), TrainConfig(steps=7))
    assert runs.build(config).config.pixels == PixelCNNConfig()


def test_a_scan_is_not_compiled():
    config = presets.get("digits/row_lstm")
    config.train.jit_compile = True
    with pytest.raises(
        ValueError, match=r"train\.jit_compile must be False for row_lstm, which XLA does not compile\. Received: True"
    ):
        config.validate()


def test_partial_initial_weights_are_of_some_model():
    config = presets.get("digits/vae")
    config.train.partial_initial_weights = True
    with pytest.raises(ValueError, match=r"partial_initial_weights must be False without train\.initial_weights"):
        config.validate()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config must be a JSON object"),
        ("[]", "config must be a dictionary or an instance of Config"),
        ('{"modle": {}}', r"config has no field 'modle'; did you mean model\?; its fields are data, model, train"),
        ('{"train": {"steps": "many"}}', "config.train.steps must be a valid integer"),
        ('{"train": {"steps": 1.5}}', "config.train.steps must be a valid integer"),
        ('{"model": {"pixels": {"network": "gan"}}}', "config.model.pixels must be one of 'gated_pixel_cnn', "),
        ('{"model": {"pixels": {"network": []}}}', "config.model.pixels must be one of 'gated_pixel_cnn', "),
        ('{"model": {"pixels": []}}', "config.model.pixels must be the config of a network"),
        (
            '{"model": {"pixels": {"network": "row_lstm", "dropout": 0.1}}}',
            "config.model.pixels has no field 'dropout'",
        ),
        ('{"model": {"levels": 3}}', "config.model.levels must be a list"),
        ('{"model": {"levels": [{"dims": 3}]}}', r"config.model.levels\[0\] has no field 'dims'"),
    ],
)
def test_bad_json_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        config_lib.from_json(text)


def test_unknown_preset():
    with pytest.raises(ValueError, match="must be one of the presets"):
        presets.get("digits/gan")


def test_a_warm_up_of_upper_levels_that_an_earlier_version_wrote_is_kept():
    written = json.loads(config_lib.to_json(presets.get("digits/hierarchical")))
    written["train"] |= {"kl_warmup_steps": 100, "upper_kl_warmup_steps": 300, "free_nats": 2.0}
    train = config_lib.from_json(json.dumps(written)).train
    assert train.kl_warmup_steps == (100, 300) and train.free_nats == (2.0,)
