"""pixelvae-launch: trains with several processes on this machine, and restarts them when one dies.

pixelvae-launch --workers=4 -- --config=digits/gated_pixel_vae --workdir=runs/digits
"""

import re
import signal
import sys

from absl import app, flags

from pixelvae_tf import console, limits

_WORKERS = flags.DEFINE_integer("workers", 2, "Processes that share each batch.", 1, limits.MAX_PARALLEL)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts", 3, "How often all start again, from the last checkpoint, when one dies.", 0, limits.MAX_COUNT
)


def main(argv: list[str]) -> None:
    """Parses the flags and launches."""
    from pixelvae_tf.train import interruption, launch

    given = argv[1:]
    if any(re.match("--?strategy(=|$)", flag) for flag in given):
        raise app.UsageError(f"--strategy must be left out: it is multi_worker here. Received: {' '.join(given)}")

    def say(text: str) -> None:
        print(f"pixelvae-launch: {text.rstrip()}", file=sys.stderr, flush=True)

    launcher = launch.Launcher(launch.train_command(given), _WORKERS.value, _MAX_RESTARTS.value, say)
    for number in interruption.requests():
        signal.signal(number, launcher.stop)
    sys.exit(launcher.run())


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags before --; returns those after it, for pixelvae-train."""
    end = argv.index("--") if "--" in argv else len(argv)
    reason = f"Received: {' '.join(argv[1:]) or 'none'}"
    try:
        rest = flags.FLAGS(argv[:end])[1:]
    except flags.UnrecognizedFlagError as error:
        rest, reason = [error.flagname], str(error)
    except flags.Error as error:
        console.refuse_flags(error)
    given = argv[end + 1 :]
    if rest or not given:
        raise SystemExit(
            "pixelvae-launch: the flags of pixelvae-train are expected after --, as in pixelvae-launch --workers=2 -- "
            f"--config=PRESET --workdir=DIR. {reason}"
        )
    return [argv[0], *given]


def run() -> None:
    """The console script."""
    console.run(main, flags_parser=_parse_flags)


if __name__ == "__main__":
    run()
