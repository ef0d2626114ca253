"""pixelvae-explore: opens a page in the browser to look at a model.

pixelvae-explore
pixelvae-explore --saved_model=models/digits
pixelvae-explore --server=localhost:8501 --model=digits

Samples at any temperature, latents as sliders, which level of noise decides what, an image of yours with its bound and
where it is unlikely, a mask to paint and what the model makes of it. Without arguments it shows weights that come with
the package. The page is served to this machine alone and asks nothing of any other; Ctrl-C ends it.
"""

import sys
import threading
import webbrowser

from absl import flags, logging

from pixelvae_tf import console
from pixelvae_tf.export import client
from pixelvae_tf.train import interruption

DEFAULT = "digits/gated_pixel_vae"
_PRETRAINED = console.define_pretrained(f"The model, by default {DEFAULT}")
_SAVED_MODEL = console.define_path("saved_model", None, "The model: an export, or a directory of them (the newest).")
_SERVER = flags.DEFINE_string("server", None, "The model: on a server of REST at host:port (often 8501).")
_MODEL = flags.DEFINE_string("model", None, "The name that the server knows the model by.")
_TIMEOUT = flags.DEFINE_float("timeout", 60.0, "Seconds that a call of the server may take.", 0.001, client.MAX_TIMEOUT)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on. Any but this machine's own lets others in.")
_PORT = flags.DEFINE_integer("port", None, "The port to listen on; by default the first free one from 7860.", 1, 65535)
_NO_BROWSER = flags.DEFINE_bool("no_browser", False, "Print the address alone.")


def main(argv: list[str]) -> None:
    """Parses the flags and serves the page until it is stopped."""
    console.refuse_arguments(argv)
    # TensorFlow warns of retracing where every signature is traced once.
    logging.set_verbosity(logging.ERROR)
    interruption.exit_on_request()  # or what was uploaded would stay
    try:
        _serve()
    except (OSError, ValueError, client.ServerError) as error:
        raise SystemExit(f"pixelvae-explore: {error}") from error


def _serve() -> None:
    try:
        from pixelvae_tf.export.explore import serving
        from pixelvae_tf.export.explore.preparation import Preparation
    except ImportError as error:
        wanted = "pip install 'pixelvae_tf[explore]'"
        raise SystemExit(f"pixelvae-explore: needs Gradio: {wanted}. Received: {error}") from error
    model = _open()  # which may download it
    if not serving.is_loopback(_HOST.value):
        print(
            f"pixelvae-explore: with --host={_HOST.value} everybody who reaches this port can use the page, "
            "unencrypted and without a password: their images and your model's time.",
            file=sys.stderr,
        )
    before = (lambda: None) if _SERVER.value else console.start_tensorflow
    with serving.served(model, Preparation(model, before), _HOST.value, _PORT.value) as address:
        print(f"pixelvae-explore: {address}", flush=True)
        if not _NO_BROWSER.value:
            webbrowser.open(address)
        threading.Event().wait()


def _open():
    """The model that the flags name."""
    from pixelvae_tf.export.explore import opening

    given = [name for name in ("pretrained", "saved_model", "server") if flags.FLAGS[name].value is not None]
    if len(given) > 1:
        raise ValueError(f"the model must be given once. Received: {', '.join(given)}")
    for name in ("model", "timeout"):
        if flags.FLAGS[name].present and given != ["server"]:
            raise ValueError(f"{name} must be left out without server. Received: {flags.FLAGS[name].value}")
    if given == ["server"]:
        if not _MODEL.value:
            raise ValueError("model must be given with server. Received: none")
        return opening.server(_SERVER.value, _MODEL.value, _TIMEOUT.value)
    if given == ["saved_model"]:
        return opening.saved_model(_SAVED_MODEL.value)
    return opening.pretrained(_PRETRAINED.value or DEFAULT)


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
