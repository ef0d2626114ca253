"""Trained weights that a run starts with, and the trainings behind them."""

from pixelvae_tf import config as config_lib
from pixelvae_tf import presets, pretrained, runs
from pixelvae_tf.models import PixelVAE


def load(config: config_lib.Config) -> tuple[PixelVAE, list[dict]]:
    """What `train.initial_weights` names.

    Args:
      config: of the run that starts with them.

    Returns:
      A model with the weights, and all trainings behind them as `runs.read_history` gives them.

    Raises:
      ValueError: if it names neither a pretrained model nor a run's directory with weights, or weights of another
        architecture.
    """
    source = config.train.initial_weights
    if source in pretrained.names():
        trained, its_config, card = pretrained.load(source)
        step, command, history = card["step"], card["commands"]["train"], card["history"]
    else:
        try:
            trained, its_config, step = runs.load(source)
            history = runs.read_history(source)
        except ValueError as error:
            raise ValueError(
                "train.initial_weights must be the directory of a run or one of the pretrained models "
                f"{', '.join(pretrained.names())}. Received: {source!r}: {error}"
            ) from error
        command = presets.command_for(its_config, source)
    _check_fits(trained, its_config, config)
    return trained, [*history, {"command": command, "step": step, "fingerprint": runs.fingerprint(trained)}]


def _check_fits(trained: PixelVAE, its_config: config_lib.Config, config: config_lib.Config) -> None:
    """The same weights are wanted, not the same config: dropout, say, may change."""

    def shapes(model: PixelVAE) -> dict[str, tuple[int, ...]]:
        return {name: tuple(weight.shape) for name, weight in runs.weights_of(model).items()}

    if shapes(trained) == shapes(runs.build(config)):
        return
    different = [
        f"{name} is {old!r} there and {new!r} here"
        for name, old, new in config_lib.differences(its_config, config)
        if name.startswith("model.")
    ]
    raise ValueError(
        "train.initial_weights must be weights of this architecture. "
        f"Received: {config.train.initial_weights!r}, where {'; '.join(different)}"
    )
