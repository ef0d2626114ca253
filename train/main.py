"""pixelvae-train: trains a preset, or resumes a run.

pixelvae-train --config=digits/gated_pixel_vae --workdir=runs/digits
pixelvae-train --config=digits/gated_pixel_vae --config.train.steps=100 --workdir=runs/short
pixelvae-train --list
pixelvae-train --config=digits/gated_pixel_vae --print_config
"""

import itertools
import logging
import os
import pathlib
import re
import signal
import sys
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from pixelvae_tf import config as config_lib
from pixelvae_tf import config_help, console, limits, onednn, presets
from pixelvae_tf.errors import first_line
from pixelvae_tf.suggestions import did_you_mean

_CONFIG = config_flags.DEFINE_config_dataclass(
    "config", config_lib.Config(), "A preset; see --list.", parse_fn=presets.get
)
flags.FLAGS["config"].default_as_str = None  # the default belongs to no preset and fills a page
_WORKDIR = console.define_path("workdir", None, "Where checkpoints, logs and pictures go.")
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored", "multi_worker"],
    "How the work is spread: auto mirrors over several GPUs; multi_worker reads TF_CONFIG, see pixelvae-launch.",
)
_VIRTUAL_CPUS = flags.DEFINE_integer(
    "virtual_cpus",
    1,
    "CPU devices to mirror over, with --strategy=mirrored; best as many as cores.",
    1,
    limits.MAX_PARALLEL,
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "Equal weights, bit for bit, from equal runs (slower; TensorFlow's op determinism)."
)
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the config, flags applied, as JSON and stop.")
_LIST = flags.DEFINE_bool("list", False, "Print the presets and stop.")


def main(argv: list[str]) -> None:
    """Parses the flags and trains."""
    signal.signal(signal.SIGTERM, _stop)  # during start-up; `Interruption` takes over for training
    console.refuse_arguments(argv)
    if _LIST.value:
        print(f"{'preset':46} {'cost (an evaluation of the bound, an image)':44} should give\n    what it is\n")
        for name in presets.names():
            description = presets.describe(name)
            print(f"{name:46} {description.cost:44} {description.expected}\n    {description.summary}")
        return
    if not flags.FLAGS["config"].present:
        raise app.UsageError("--config=PRESET is required; --list prints the presets")
    if _PRINT_CONFIG.value:
        _print_config()
        return
    if not _WORKDIR.value:
        raise app.UsageError("--workdir=DIR is required")
    if _VIRTUAL_CPUS.value > 1 and _STRATEGY.value != "mirrored":
        raise app.UsageError("--virtual_cpus needs --strategy=mirrored")
    # Show our own progress, and only warnings of other packages.
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("pixelvae_tf").setLevel(logging.INFO)
    onednn.switch_on()
    console.start_tensorflow(devices_follow=True)
    import tensorflow as tf

    from pixelvae_tf.train import strategies, trainer
    from pixelvae_tf.train.interruption import Interruption

    if _DETERMINISTIC.value:
        tf.config.experimental.enable_op_determinism()
    try:
        # User errors are raised before the first step; a later ValueError would be a bug.
        try:
            if _VIRTUAL_CPUS.value > 1:
                strategies.split_cpu(_VIRTUAL_CPUS.value)
            strategy = strategies.make_strategy(_STRATEGY.value)
            console.leave_out_onednn()
            runner = trainer.prepare(_CONFIG.value, _WORKDIR.value, strategy)
        except ValueError as error:
            raise SystemExit(f"pixelvae-train: {error}") from error
        with Interruption() as interruption:
            runner.run(interruption)
    except (FloatingPointError, OSError) as error:
        raise SystemExit(f"pixelvae-train: {error}") from error
    except tf.errors.UnknownError as error:
        if "gRPC server" not in error.message:
            raise
        _fail_for_now(
            "this worker's port must be free; TF_CONFIG names it. Received: "
            f"{os.environ.get('TF_CONFIG')}: {first_line(error)}"
        )
    except tf.errors.UnavailableError as error:
        aborted = re.search("aborted by: (.*)", error.message)
        reason = aborted[1] if aborted else first_line(error)
        _fail_for_now(f"another worker was lost ({reason}). What was saved is kept; the same commands go on")
    print(f"trained: {pathlib.Path(_WORKDIR.value)}")


def _stop(number: int, frame) -> NoReturn:
    print(f"pixelvae-train: stopped by signal {number} outside of training; what was saved is kept", file=sys.stderr)
    sys.exit(128 + number)


def _fail_for_now(message: str) -> NoReturn:
    """Exits with a status of its own, not 1, so that a scheduler can tell what to retry."""
    print(f"pixelvae-train: {message}", file=sys.stderr)
    sys.exit(os.EX_TEMPFAIL)


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; errors of config_flags become one message."""
    configs = [argument for argument in argv if re.match("--?config(=|$)", argument)]
    if len(configs) > 1:  # the fields of the second would be mixed with the first's
        raise SystemExit(f"pixelvae-train: --config must be given once. Received: {' '.join(configs)}")
    fields = [argument for argument in argv if argument.startswith(("--config.", "-config."))]
    try:
        rest = flags.FLAGS(argv)
        # ml_collections splits numbers at commas, and takes names for one text.
        model = flags.FLAGS["config"].value.model
        model.orders = tuple(",".join(map(str, model.orders)).split(","))
        return rest
    except flags.Error as error:
        if re.search("as instance of|marked as optional|supported for overriding", str(error)):
            _refuse_part(fields, error)
        console.refuse_flags(error, _field_flags())
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        unknown = [name for name in (field.partition("=")[0] for field in fields) if name not in _field_flags()]
        meant = "".join(did_you_mean(name, _field_flags()) for name in unknown)
        raise SystemExit(
            "pixelvae-train: every --config.FIELD must name a field of the preset. "
            f"Received: {' '.join(fields)}: {error.args[0]}{meant}"
        ) from error
    except TypeError as error:
        _refuse_part(fields, error)


def _refuse_part(fields: list[str], error: Exception) -> NoReturn:
    raise SystemExit(
        "pixelvae-train: every --config.FIELD must name a number, a text or a tuple of them; a whole network or "
        f"level is the preset's choice. Received: {' '.join(fields)}"
    ) from error


def _field_flags() -> list[str]:
    """The fields of all presets, as flags."""
    fields = (config_lib.field_names(presets.get(name)) for name in presets.names())
    return [f"--config.{name}" for name in dict.fromkeys(itertools.chain(*fields))]


def _print_config() -> None:
    try:
        _CONFIG.value.validate()
    except ValueError as error:
        raise SystemExit(f"pixelvae-train: {error}") from error
    print(config_lib.to_json(_CONFIG.value), end="")


def run() -> None:
    """The console script."""
    console.run(main, config_help.text, flags_parser=_parse_flags)


if __name__ == "__main__":
    run()
