"""Trained weights that a run starts with, and the trainings behind them."""

import pathlib

from pixelvae_tf import config as config_lib
from pixelvae_tf import hub, presets, pretrained, runs
from pixelvae_tf.models import PixelVAE


def load(config: config_lib.Config, model: PixelVAE) -> tuple[PixelVAE, list[dict]]:
    """Loads what `train.initial_weights` names.

    Args:
      config: the run that starts with them.
      model: of that config.

    Returns:
      A model with the weights, and all trainings behind them as `runs.read_lineage` gives them.

    Raises:
      ValueError: if it names neither a pretrained model nor a run's directory with weights that can be read, or both,
        or weights of another architecture.
    """
    source = config.train.initial_weights
    if hub.is_preset(source):
        if source in hub.names() and pathlib.Path(source, runs.CONFIG).is_file():
            raise ValueError(
                "train.initial_weights must name a pretrained model or the directory of a run, not both; "
                f"./{source} is the directory. Received: {source!r}"
            )
        trained, trained_config, card = pretrained.load(source)
        step, command, lineage = card["step"], card["commands"]["train"], card["lineage"]
    else:
        try:
            trained, trained_config, step = runs.load(source)
            lineage = runs.read_lineage(source)
        except (OSError, ValueError) as error:
            raise ValueError(
                "train.initial_weights must be the directory of a run or one of the pretrained models "
                f"{', '.join(hub.names())}, or what save_to_preset wrote, in a folder or on a hub. "
                f"Received: {source!r}: {error}"
            ) from error
        trained_config.data.data_dir = ""  # the place of the images on a machine is not part of the lineage
        command = presets.command_for(trained_config, source)
    # The weights must match, not the config: dropout, for example, may change.
    if _shapes(trained) != _shapes(model):
        different = [field for field in config_lib.differences(trained_config, config) if field[0].startswith("model.")]
        raise ValueError(
            f"train.initial_weights must be weights of this architecture. Received: {source!r}, where "
            f"{config_lib.in_words(different, 'that model', 'this config')}"
        )
    return trained, [*lineage, {"command": command, "step": step, "fingerprint": runs.fingerprint(trained)}]


def _shapes(model: PixelVAE) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in runs.weights_of(model).items()}
