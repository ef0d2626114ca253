"""pixelvae-launch: trains with several processes of this machine, and goes on when one of them dies.

pixelvae-launch --workers=4 -- --config=digits/gated_pixel_vae --workdir=runs/digits
"""

import re
import signal
import sys

from absl import app, flags

from pixelvae_tf import console

_WORKERS = flags.DEFINE_integer("workers", 2, "Processes that share each batch.", lower_bound=1)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts", 3, "How often all start again, from the last checkpoint, when one dies.", lower_bound=0
)


def main(argv: list[str]) -> None:
    """Parses the flags and launches."""
    from pixelvae_tf.train import launch

    given = argv[1:]
    if not given:
        raise app.UsageError("the flags of pixelvae-train are expected after --")
    if any(re.match("--?strategy(=|$)", flag) for flag in given):
        raise app.UsageError(f"--strategy must be left out: it is multi_worker here. Received: {' '.join(given)}")

    def say(text: str) -> None:
        print(f"pixelvae-launch: {text.rstrip()}", file=sys.stderr, flush=True)

    launcher = launch.Launcher(launch.train_command(given), _WORKERS.value, _MAX_RESTARTS.value, say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, launcher.stop)
    sys.exit(launcher.run())


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
