"""pixelvae-export: writes a trained run as a SavedModel for TensorFlow Serving, checked, or as weights to publish.

pixelvae-export --workdir=runs/digits --export_dir=models/digits
pixelvae-export --workdir=runs/digits --export_dir=models/digits --xla --xla_parts=2 --warmup=1,16
pixelvae-export --pretrained=digits/gated_pixel_vae --export_dir=models/digits
pixelvae-export --workdir=runs/digits --preset_dir=presets/digits

Beside the versions it leaves models.config and batching_parameters.txt to start the server with. With --preset_dir it
writes what `PixelVAE.from_preset` reads, from a folder or a hub, with a model card.
"""

import dataclasses
import pathlib
import shlex
import sys

from absl import flags, logging

from pixelvae_tf import console, limits
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.train import interruption

_WORKDIR = console.define_path("workdir", None, "Directory of a run.")
_PRETRAINED = console.define_pretrained("Trained weights, instead of a run's")
_EXPORT_DIR = console.define_path("export_dir", None, "The model's directory; gets a new version.")
_PRESET_DIR = console.define_path("preset_dir", None, "A folder to write the weights into, with their model card.")
_WEIGHTS = flags.DEFINE_enum("weights", None, ["best", "latest"], "Which averaged weights of the run; best by default.")
_DTYPE = flags.DEFINE_enum("dtype", None, limits.DTYPES, "Precision to compute in, if it is not the run's.")
_MAX_BATCH = flags.DEFINE_integer(
    "max_batch", ServingOptions.max_batch, "Largest batch of a request, and of merged ones."
)
_COMPLETION_ROUNDS = flags.DEFINE_integer(
    "completion_rounds",
    ServingOptions.completion_rounds,
    "Rounds of encoding and filling in, by the signature complete.",
)
_WARMUP = flags.DEFINE_list("warmup", [], "Batch sizes that the server tries before it answers, as 1,16.")
_XLA = flags.DEFINE_bool("xla", False, "Write a second model too, EXPORT_DIR_xla, compiled by XLA.")
_XLA_PARTS = flags.DEFINE_integer(
    "xla_parts",
    ServingOptions.xla_parts,
    "Parts of a batch that it computes side by side: the cores of a server without GPU.",
)
flags.mark_flags_as_mutual_exclusive(["workdir", "pretrained"], required=True)
flags.mark_flags_as_mutual_exclusive(["weights", "pretrained"])
flags.mark_flags_as_mutual_exclusive(["dtype", "pretrained"])
flags.mark_flags_as_mutual_exclusive(["export_dir", "preset_dir"], required=True)
SERVING = ("max_batch", "completion_rounds", "warmup", "xla", "xla_parts")


def main(argv: list[str]) -> None:
    """Parses the flags and exports."""
    console.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TensorFlow warns of retracing where every endpoint is traced once
    interruption.exit_on_request()  # or unfinished files would stay
    console.start_tensorflow()
    try:
        if _PRESET_DIR.value:
            _write_preset()
        else:
            _export()
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"pixelvae-export: {error}") from error


def _write_preset() -> None:
    for name in SERVING:
        if flags.FLAGS[name].present:
            raise ValueError(f"{name} must be left out with preset_dir. Received: {flags.FLAGS[name].value}")
    model, card = _model_and_card()
    model.save_to_preset(_PRESET_DIR.value, card)
    print(f"saved: {_PRESET_DIR.value}")


def _export() -> None:
    from pixelvae_tf.export import exporter, serving_config

    options = ServingOptions(_MAX_BATCH.value, _batch_sizes(_WARMUP.value), completion_rounds=_COMPLETION_ROUNDS.value)
    variants = {_EXPORT_DIR.value: options}
    compiled = dataclasses.replace(options, xla=_XLA.value, xla_parts=_XLA_PARTS.value)
    if _XLA.value:
        variants[str(serving_config.xla_variant(_EXPORT_DIR.value))] = compiled
    serving_config.model_name(_EXPORT_DIR.value)  # refuses a path without one
    model, card = _model_and_card()
    for export_dir in variants:
        exporter.make_folder(export_dir).rmdir()  # where one cannot be written, none is
    exported = []
    for export_dir, variant in variants.items():
        path = exporter.export(model, card, export_dir, variant)
        print(f"exported and checked: {path}")
        exported.append(export_dir)
        serving_config.write(exported, options)


def _batch_sizes(texts: list[str]) -> tuple[int, ...]:
    if not all(text.isdecimal() for text in texts):
        raise ValueError(f"warmup must be batch sizes with commas between them, as 1,16. Received: {','.join(texts)}")
    return tuple(map(int, texts))


def _model_and_card() -> tuple:
    """The model, and its card from the run or the package, with this command."""
    from pixelvae_tf import hub, presets, pretrained, runs
    from pixelvae_tf.export.card import make_card

    # What travels says nothing of this machine's folders.
    export = {} if _PRESET_DIR.value else {"export": shlex.join(["pixelvae-export", *sys.argv[1:]])}
    if _PRETRAINED.value:
        model, _, card = pretrained.load(_PRETRAINED.value)
        if not card["evaluations"]:  # the run that its command names is not here
            export["evaluate"] = f"pixelvae-evaluate --pretrained={hub.portable(_PRETRAINED.value)}"
        return model, {**card, "commands": card["commands"] | export}
    weights = _WEIGHTS.value or "best"
    model, config, step = runs.load(_WORKDIR.value, weights, _DTYPE.value)
    workdir = _WORKDIR.value
    if _PRESET_DIR.value:
        workdir = f"runs/{pathlib.Path(_PRESET_DIR.value).absolute().name}"
        config = presets.without_places(config)
    which = [f"--weights={_WEIGHTS.value}"] if _WEIGHTS.value else []
    which += [f"--dtype={_DTYPE.value}"] if _DTYPE.value else []
    commands = {
        "train": presets.command_for(config, workdir),
        "evaluate": shlex.join(["pixelvae-evaluate", f"--workdir={workdir}", *which]),
    }
    evaluations = runs.read_evaluations(_WORKDIR.value, runs.fingerprint(model), model.dtype_policy.name)
    lineage = runs.read_lineage(_WORKDIR.value)
    classes = (runs.read_images(_WORKDIR.value) or {}).get("classes", [])
    card = make_card(config, weights, step, evaluations, commands | export, classes)
    return model, {**card, "lineage": lineage}


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
