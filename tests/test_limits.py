"""Numbers that Python holds and the computation does not are refused by the field's name."""

import dataclasses
import json
import typing

import pytest

from pixelvae_tf import config as config_lib
from pixelvae_tf import fields, limits, presets, runs
from pixelvae_tf.bounds import Objective
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.models.networks import NETWORKS

KINDS = (config_lib.TrainConfig, config_lib.ModelConfig, config_lib.LevelConfig, *NETWORKS.values())


def _numeric_fields():
    """Every number of every part of a config: class, field, type of the number, and whether it is one of a tuple."""
    for kind in KINDS:
        for name, hint in typing.get_type_hints(kind).items():
            number = next(iter(typing.get_args(hint)), hint)
            if number in (int, float) and not isinstance(number, bool):
                yield pytest.param(kind, name, number, number is not hint, id=f"{kind.__name__}.{name}")


@pytest.mark.parametrize(("kind", "name", "number", "in_tuple"), _numeric_fields())
def test_every_number_of_a_config_has_limits(kind, name, number, in_tuple):
    where = f"config.part.{name}[0]" if in_tuple else f"config.part.{name}"
    too_much = [10**23, 10**400, 10**5000]
    if number is float:
        too_much += [1e300, 1e39, float("inf"), float("nan"), 1e-300]
    for value in too_much:
        with pytest.raises(ValueError) as refused:
            fields.check(kind, {name: [value] if in_tuple else value}, "config.part")
        assert str(refused.value).startswith(f"{where} must be ")


def test_the_limits_leave_what_every_preset_and_default_has():
    for name in presets.names():
        presets.get(name).validate()


@pytest.mark.parametrize("field", ["average_decay", "learning_rate_drop_at", "learning_rate_drop_factor"])
def test_a_share_that_float32_rounds_to_one_is_refused(field):
    config = presets.get("digits/gated_pixel_vae")
    setattr(config.train, field, 1 - 1e-9)
    with pytest.raises(ValueError, match=rf"train\.{field} must be at most 0\.9999999"):
        config.validate()


def test_a_dropout_that_float32_rounds_to_one_is_refused():
    config = presets.get("digits/gated_pixel_vae")
    config.model.pixels.dropout = 1 - 1e-9
    with pytest.raises(ValueError, match=r"model\.pixels\.dropout must be at most 0\.9999999"):
        config.validate()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.free_nats": (1e300,)},
            r"config\.train\.free_nats\[0\] must be at most 1000000000\. Received: 1e\+300",
        ),
        ({"train.batch_size": 10**23}, r"config\.train\.batch_size must be at most 1048576\. Received: 1000"),
        (
            {"train.learning_rate": 10**400},
            r"config\.train\.learning_rate must be a valid number\. Received: an integer",
        ),
        ({"train.clip_norm": 1e-50}, r"config\.train\.clip_norm must be 0 or at least 1e-15\. Received: 1e-50"),
        ({"train.clip_norm": 1e-20}, r"config\.train\.clip_norm must be 0 or at least 1e-15\. Received: 1e-20"),
    ],
)
def test_a_run_with_such_numbers_is_refused(changes, message):
    config = presets.get("digits/gated_pixel_vae")
    for path, value in changes.items():
        part, field = path.split(".")
        setattr(getattr(config, part), field, value)
    with pytest.raises(ValueError, match=message):
        runs.build(config)


def test_a_level_too_wide_is_refused_by_its_place():
    config = presets.get("digits/gated_pixel_vae")
    config.model.levels[0].dim = 10**23
    with pytest.raises(ValueError, match=r"config\.model\.levels\[0\]\.dim must be at most 65536"):
        config.validate()


def test_numbers_of_compile_have_the_same_limits():
    for objective in (
        Objective(free_nats=1e300),
        Objective(kl_warmup_steps=[10**23]),
        Objective(free_nats_steps=2**31),
    ):
        with pytest.raises(ValueError, match="must be at most"):
            objective.validate(1)
    Objective(kl_warmup_steps=limits.MAX_COUNT, free_nats=[0.5]).validate(1)


def test_a_number_too_long_to_read_is_no_config():
    text = json.dumps(dataclasses.asdict(presets.get("digits/vae"))).replace('"steps": ', '"steps": ' + "1" * 5000, 1)
    with pytest.raises(ValueError, match="config must be a JSON object as written by a run"):
        config_lib.from_json(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 10**23}, "max_batch must be at most 1048576"),
        ({"max_batch": 10**6, "xla": True, "xla_parts": 10**5}, "xla_parts must be in 1..1024, and 1 without xla"),
        ({"completion_rounds": 10**23}, "completion_rounds must be in 0.."),
    ],
)
def test_numbers_of_an_export_have_limits(options, message):
    with pytest.raises(ValueError, match=message):
        ServingOptions(**options)
