"""Configs and presets: data that survives JSON, and errors that name the field."""

import dataclasses

import pytest

from pixelvae_tf import config as config_lib
from pixelvae_tf import presets, runs
from pixelvae_tf.config import Config


@pytest.mark.parametrize("name", presets.names())
def test_presets_survive_json_and_say_what_they_are(name):
    config = presets.get(name)
    config.validate()
    again = config_lib.from_json(config_lib.to_json(config))
    assert again == config and type(again.model.image_shape) is tuple
    assert presets.get(name) is not presets.get(name)
    assert len(presets.summary(name)) > 20
    assert f"--config={name} " in presets._PRESETS[name].__doc__


@pytest.mark.parametrize("name", presets.names())
def test_presets_build(name):
    model = runs.build(presets.get(name))
    assert model.count_params() > 10_000
    # Names that a checkpoint of another process will find again: none counts how many layers were made before.
    assert list(runs.weights_of(model)) == list(runs.weights_of(runs.build(presets.get(name))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.train, "steps", 0), "train.steps must be at least 1"),
        (lambda c: setattr(c.train, "learning_rate", -1.0), "train.learning_rate must not be negative"),
        (lambda c: setattr(c.train, "learning_rate", float("nan")), "train.learning_rate must not be negative"),
        (lambda c: setattr(c.train, "learning_rate_decay", "magic"), "train.learning_rate_decay must be one of"),
        (lambda c: setattr(c.train, "dtype", "int8"), "train.dtype must be one of"),
        (lambda c: setattr(c.train, "average_decay", 1.0), "train.average_decay must be in"),
        (lambda c: setattr(c.model, "num_values", 1), "model.num_values must be in"),
        (lambda c: setattr(c.model, "image_shape", (8, 8)), "model.image_shape must be"),
        (lambda c: setattr(c.model, "levels", c.model.levels * 2), "model.levels must have at most one"),
        (lambda c: setattr(c.model.pixels, "dropout", 1.0), "model.pixels.dropout must be in"),
        (lambda c: setattr(c.model.pixels, "kernel_size", 4), "model.pixels.kernel_size must be odd"),
        (lambda c: setattr(c.model.pixels, "first_kernel_size", 1), "model.pixels.first_kernel_size must be"),
        (lambda c: setattr(c.model.levels[0], "dim", 0), "a level needs dim"),
    ],
)
def test_what_makes_no_sense_is_named(change, message):
    config = presets.get("digits/gated_pixel_vae")
    change(config)
    with pytest.raises(ValueError, match=message):
        config.validate()


def test_channels_must_divide_the_filters():
    config = presets.get("cifar10/gated_pixel_cnn_tiny")
    config.model.pixels.filters = 16
    with pytest.raises(ValueError, match="multiple of the image's channels"):
        config.validate()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config must be a JSON object"),
        ("[]", "config must be an object"),
        ('{"modle": {}}', "config has no field 'modle'; its fields are data, model, train"),
        ('{"train": {"steps": "many"}}', "config.train.steps must be of type int"),
        ('{"train": {"steps": 1.5}}', "config.train.steps must be of type int"),
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


def test_fields_of_configs_are_documented():
    for kind in (Config, *(field.type for field in dataclasses.fields(Config)), config_lib.LevelConfig):
        for field in dataclasses.fields(kind):
            if not dataclasses.is_dataclass(field.type):
                assert field.name in kind.__doc__, f"{kind.__name__}.{field.name}"
