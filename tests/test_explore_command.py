"""The command pixelvae-explore: what it refuses, what it prints, and what it leaves when it is stopped."""

import os
import pathlib
import signal
import subprocess
import sys
import urllib.request

import pytest
from commands import run_command

EXPLORE = "export.explore_main"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--saved_model=no"], "saved_model must be a version directory written by pixelvae-export"),
        (["--saved_model=a", "--server=b:1"], "the model must be given once. Received: saved_model, server"),
        (["--model=digits"], "model must be left out without server. Received: digits"),
        (["--saved_model=a", "--timeout=3"], "timeout must be left out without server. Received: 3.0"),
        (["--server=localhost:1"], "model must be given with server. Received: none"),
        (["--server=localhost:9", "--model=m"], "server must be the host:port of one that answers"),
        (["extra"], "unknown arguments: extra"),
    ],
)
def test_what_is_wrong_is_one_message(arguments, message):
    status, out, errors = run_command(EXPLORE, *arguments, "--no_browser")
    assert status == 1 and message in errors + out and "Traceback" not in errors


def _without_gradio() -> None:
    sys.modules["gradio"] = None


def test_without_its_extra_it_names_it():
    status, _, errors = run_command(EXPLORE, "--no_browser", prepare=_without_gradio)
    assert status == 1 and "needs Gradio: pip install 'pixelvae_tf[explore]'" in errors


def test_it_serves_until_it_is_stopped_and_leaves_nothing(export, tmp_path):
    command = [sys.executable, "-m", "pixelvae_tf.export.explore_main", f"--saved_model={export('at_most_2').path}"]
    # A proxy of the environment is not asked for what is on this machine.
    environment = {
        **{name: value for name, value in os.environ.items() if name.lower() != "no_proxy"},
        "TMPDIR": str(tmp_path),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options = ["--no_browser", "--host=0.0.0.0"]
    with subprocess.Popen([*command, *options], env=environment, cwd=tmp_path, **streams) as process:
        try:
            name, address = process.stdout.readline().split()
            assert name.endswith(":")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(address) as answer:
                assert b"pixelvae-explore" in answer.read()
            (folder,) = tmp_path.glob("pixelvae-explore-*")
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "with --host=0.0.0.0 everybody who reaches this port can use the page" in errors
    assert not list(tmp_path.glob("pixelvae-explore-*")) and not pathlib.Path(folder).exists()
