"""The config of a run: which images, which model, how it is trained. Stored beside the weights as JSON."""

import dataclasses
import json
import pathlib
import typing
from typing import Any

from pydantic import Field

from pixelvae_tf.fields import Count, Nats, Part, check, config_dataclass, count, number, one_of, share, switch
from pixelvae_tf.limits import DTYPES, MAX_BATCH, MIN_FLOAT
from pixelvae_tf.models.config import LevelConfig, ModelConfig
from pixelvae_tf.models.networks import (
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    IndependentConfig,
    MaskedResidualConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
)

# A value of `DataConfig.labels`.
FOLDERS = "folders"
# A value of `DataConfig.name`: images that a program passed to the trainer.
GIVEN = "arrays"

if typing.TYPE_CHECKING:
    from pixelvae_tf import bounds

__all__ = [
    "FOLDERS",
    "GIVEN",
    "Config",
    "DataConfig",
    "DiagonalBiLSTMConfig",
    "GatedPixelCNNConfig",
    "IndependentConfig",
    "LevelConfig",
    "MaskedResidualConfig",
    "ModelConfig",
    "PixelCNNConfig",
    "PixelCNNPPConfig",
    "RowLSTMConfig",
    "TrainConfig",
    "differences",
    "field_names",
    "from_json",
    "in_words",
    "to_json",
]


@config_dataclass
class DataConfig(Part):
    """Which images to train on.

    Attributes:
      name: a data set of `pixelvae_tf.data`, or one that TFDS has prepared in data_dir as ArrayRecord files; without
        effect where a folder is given.
      data_dir: a TFDS data directory to read; empty for TFDS' own, into which it downloads what is missing.
      folder: a folder of images of any size, or what pixelvae-prepare made of one, to be read instead.
      labels: "folders" if the subfolders of a folder are classes, for class-conditional models; else empty.
      exclude_labels: images of these classes are left out of every split, to see what a model makes of a class that it
        does not know.
      mutation: in training, the share of the channels' values that is replaced by values drawn evenly, for a background
        model (Ren et al. 2019; see `pixelvae_tf.scores`). Evaluations see the images as they are.
    """

    name: str = "digits"
    data_dir: str = ""
    folder: str = ""
    labels: str = one_of("", FOLDERS)
    exclude_labels: tuple[Count, ...] = ()
    mutation: float = number(0.0, most=1.0)

    def elsewhere(self) -> "DataConfig":
        """The same without where this machine keeps the images, which nobody else has: a folder's last name is left."""
        return dataclasses.replace(self, data_dir="", folder=pathlib.PurePath(self.folder).name)


@config_dataclass
class TrainConfig(Part):
    """How a model is trained. Periods are in steps.

    Attributes:
      steps: optimizer steps in all.
      batch_size: images of a step, over all replicas.
      seed: for the initial weights, the order of the images, and all noise but that of evaluations, which is the same
        for all runs.
      initial_weights: what to start with instead of random weights: the directory of a run, whose best weights are
        taken, or what `pixelvae_tf.load_pretrained` takes.
      partial_initial_weights: whether they may be those of another model, such as a PixelCNN for a PixelVAE's pixels:
        what that model does not have starts anew, and so does the way in which latents and labels enter.
      learning_rate: Adam's, at its highest.
      learning_rate_warmup_steps: N; the rate rises linearly, from 1/N of it at the first step.
      learning_rate_decay: "none", "cosine" (to 0 at the last step), "drop" (once, by default as the released
        programs do at 180k of 200k) or "exponential" (times 0.999995 a step, as PixelCNN++).
      learning_rate_drop_at: the share of the steps after which a "drop" comes.
      learning_rate_drop_factor: what a "drop" multiplies the rate by.
      clip_norm: gradients of a larger global norm are scaled down to it; 0 for no limit.
      kl_warmup_steps: steps in which the weight of a level's KL rises from 0 to 1; one number per level, level 1
        first, of which the last holds for all levels above.
      free_nats: nats of a level's KL that are not penalised, on the mean over a batch; per level in the same way.
      free_nats_steps: the step from which on there are no free nats; 0 for none.
      prior_floor_steps: of a model of several levels, steps in which a floor under the sigmas of its learnt priors
        falls from 1 to 0.
      average_decay: decay of the moving average of the weights, which is evaluated and exported.
      steps_per_loop: steps run by one call into the graph.
      log_every, evaluate_every, checkpoint_every: periods of what follows a loop; a checkpoint also comes before each
        evaluation.
      rematerialize: whether activations are computed again for the gradient instead of kept in memory, block by block;
        changes no number but by rounding.
      jit_compile: whether XLA compiles the bound and its gradient; dropout draws other numbers then. Not for LSTMs.
      dtype: Keras' dtype policy, "float32", "mixed_bfloat16" or, for checks, "float64".
    """

    steps: int = count(200_000, 1)
    batch_size: int = count(100, 1, MAX_BATCH)
    seed: int = count(0)
    initial_weights: str = ""
    partial_initial_weights: bool = switch(False)
    learning_rate: float = number(1e-3)
    learning_rate_warmup_steps: int = count(0)
    learning_rate_decay: str = one_of("none", "cosine", "drop", "exponential")
    learning_rate_drop_at: float = share(0.9, MIN_FLOAT)
    learning_rate_drop_factor: float = share(0.1, MIN_FLOAT)
    clip_norm: float = number(0.0)
    kl_warmup_steps: tuple[Count, ...] = (10_000,)
    free_nats: tuple[Nats, ...] = (0.0,)
    free_nats_steps: int = count(0)
    prior_floor_steps: int = count(0)
    average_decay: float = share(0.999)
    steps_per_loop: int = count(50, 1)
    log_every: int = count(100, 1)
    evaluate_every: int = count(1_000, 1)
    checkpoint_every: int = count(1_000, 1)
    rematerialize: bool = switch(False)
    jit_compile: bool = switch(False)
    dtype: str = one_of(*DTYPES)


@config_dataclass
class Config(Part):
    """A run.

    Examples:
      >>> config = pixelvae_tf.presets.get("digits/gated_pixel_vae")
      >>> config.train.steps = 200
      >>> pixelvae_tf.config.from_json(pixelvae_tf.config.to_json(config)) == config
      True
    """

    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)

    @property
    def objective(self) -> "bounds.Objective":
        """What training minimises."""
        from pixelvae_tf import bounds  # imports TensorFlow, which a config alone does not need

        return bounds.Objective(**{name: getattr(self.train, name) for name in bounds.Objective._fields})

    def validate(self) -> "Config":
        """A checked copy, in which everything is of the declared type.

        Raises:
          ValueError: that names the first field with a wrong type or value.
        """
        config = check(Config, self, "config")
        config.model.validate()
        config.objective.validate(len(config.model.levels), "train.")
        if config.train.partial_initial_weights and not config.train.initial_weights:
            raise ValueError(
                "train.partial_initial_weights must be False without train.initial_weights. Received: True"
            )
        for network in (config.model.pixels, *(level.prior for level in config.model.levels)):
            if config.train.jit_compile and network is not None and not network.compiles:
                raise ValueError(
                    f"train.jit_compile must be False for {network.network}, which XLA does not compile. Received: True"
                )
        return config


def field_names(config: Config) -> list[str]:
    """The fields of a config that have no fields of their own, as "train.steps" or "model.levels[0].dim"."""

    def names(value: Any, name: str) -> list[str]:
        if isinstance(value, dict):
            return [inner for key in value for inner in names(value[key], f"{name}.{key}".lstrip("."))]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [inner for i, item in enumerate(value) for inner in names(item, f"{name}[{i}]")]
        return [name]

    return names(dataclasses.asdict(config), "")


def to_json(config: Config) -> str:
    """The config as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Rebuilds what `to_json` wrote.

    Raises:
      ValueError: for text that is no JSON object, a field that is unknown, or a value of another type.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # damaged, or a number of thousands of digits
        raise ValueError(f"config must be a JSON object as written by a run. Received: {error}") from error
    _update(data)
    return check(Config, data, "config")


def _update(data: Any) -> None:
    """Updates the plain data of a config that an earlier version wrote."""
    train = data.get("train") if isinstance(data, dict) else None
    if not isinstance(train, dict):
        return
    for name in ("kl_warmup_steps", "free_nats"):
        if isinstance(train.get(name), int | float):
            train[name] = [train[name]]
    if upper := train.pop("upper_kl_warmup_steps", 0):
        steps = train.setdefault("kl_warmup_steps", [0])
        steps.append(max(upper, *steps))


def differences(first: Config, second: Config) -> list[tuple[str, Any, Any]]:
    """The fields in which two runs differ.

    Args:
      first, second: the configs.

    Returns:
      (field, value in the first, value in the second) of each, as "train.steps" or "model.levels[0].dim"; of a whole
      network or list of levels, as plain data, where the two have different fields or numbers of levels.
    """
    # Checked copies: a list where a tuple is declared is no difference.
    one, other = (dataclasses.asdict(check(Config, config, "config")) for config in (first, second))
    return _differences(one, other, "")


def in_words(different: list[tuple[str, Any, Any]], first: str, second: str) -> str:
    """The result of `differences`, for a message that calls the configs' owners `first` and `second`."""
    return "; ".join(f"{name} is {one!r} in {first} and {other!r} in {second}" for name, one, other in different)


def _differences(first: Any, second: Any, name: str) -> list[tuple[str, Any, Any]]:
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [inner for key in second for inner in _differences(first[key], second[key], f"{name}.{key}".lstrip("."))]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [inner for i, (one, other) in pairs for inner in _differences(one, other, f"{name}[{i}]")]
    return [] if first == second else [(name, first, second)]
