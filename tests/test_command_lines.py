"""Command lines that nearly say what is meant: one message that names the mistake."""

import ast
import dataclasses
import pathlib

import pytest
from commands import SAMPLE, run_command
from scripts import MAINS

from pixelvae_tf import config as config_lib
from pixelvae_tf import config_help, presets
from pixelvae_tf.config import Config, DataConfig, LevelConfig, ModelConfig, TrainConfig
from pixelvae_tf.export import client, exporter
from pixelvae_tf.files import local_path
from pixelvae_tf.models.networks import NETWORKS
from pixelvae_tf.suggestions import SHOWN, did_you_mean


@pytest.mark.parametrize("path", MAINS, ids=lambda path: path.stem)
def test_every_integer_flag_has_both_bounds(path):
    """Without, numbers of any size reach the computation. Those of an export are checked there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "flags.DEFINE_integer":
            named = [keyword.arg for keyword in node.keywords if keyword.arg in ("lower_bound", "upper_bound")]
            elsewhere = ast.unparse(node.args[1]).startswith("ServingOptions.")
            assert elsewhere or len(node.args[3:] + named) == 2, ast.unparse(node)


CONFIG, OTHER = "--config=digits/vae", "--config=digits/hierarchical"
EXPECTED_AFTER = "the flags of pixelvae-train are expected after --, as in pixelvae-launch --workers=2 -- "


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train.main", [CONFIG, OTHER], f"--config must be given once. Received: {CONFIG} {OTHER}"),
        ("train.main", [CONFIG, "--config.train.steps=1", CONFIG], "--config must be given once. Received: "),
        ("train.main", ["--config", "digits/vae", "-config=digits/vae"], "--config must be given once. Received: "),
        (
            "train.main",
            [CONFIG, "--config.train.free_nats=(1e300,)", "--workdir=x"],
            "free_nats[0] must be at most 1000000000",
        ),
        ("train.main", [CONFIG, "--workdir=\udcff"], "--workdir=\\udcff: it must be a path whose characters are UTF-8"),
        ("train.main", ["--steps=100"], "unknown flag --steps; did you mean --config.train.steps?"),
        ("train.main", [CONFIG, "--wrkdir=x"], "unknown flag --wrkdir; did you mean --workdir?"),
        (
            "train.main",
            [CONFIG, "--config.train.stpes=3"],
            "stpes not found on dataclass <class 'pixelvae_tf.config.TrainConfig'>; did you mean --config.train.steps",
        ),
        ("train.main", [CONFIG, "--config.steps=3"], "did you mean --config.train.steps?"),
        (
            "train.main",
            ["--config=digits/gated_pixel_va"],
            "'digits/gated_pixel_va'; did you mean digits/gated_pixel_vae,",
        ),
        ("train.launch_main", [], f"{EXPECTED_AFTER}--config=PRESET --workdir=DIR. Received: none"),
        (
            "train.launch_main",
            ["--workers=2", CONFIG],
            f"{EXPECTED_AFTER}--config=PRESET --workdir=DIR. Unknown command",
        ),
        (
            "train.launch_main",
            ["--worker=2", "--", CONFIG],
            "Unknown command line flag 'worker'. Did you mean: workers",
        ),
        ("train.launch_main", ["digits/vae"], "--workdir=DIR. Received: digits/vae"),
        ("train.launch_main", ["--workers=2", "--"], "--workdir=DIR. Received: --workers=2 --"),
        ("train.launch_main", ["--workers=99999999999", "--", CONFIG], "--workers=99999999999"),
        ("train.launch_main", ["--", CONFIG, "--strategy=auto"], "--strategy must be left out"),
        (SAMPLE, [f"--saved_model={'n' * 300}", "--output=x.png"], "pixelvae-sample: [Errno 36] File"),
    ],
)
def test_a_command_line_that_is_nearly_right_is_refused_with_the_mistake(module, arguments, message):
    status, out, errors = run_command(module, *arguments)
    assert status not in (0, None) and message in out + errors and "Traceback" not in errors


@pytest.mark.parametrize(
    "server",
    [
        *("localhost:" + "1" * 400, "localhost:" + "1" * 5000, "localhost:65536", "localhost:-1", "localhost:0"),
        *("localhost:http", ":8501", "", "[::1:8501", "localhost:8501:1"),
    ],
)
@pytest.mark.parametrize("protocol", [client.Rest, client.Grpc])
def test_a_server_that_is_no_address_is_refused_before_it_is_called(server, protocol):
    with pytest.raises(client.ServerError, match="server must be the host:port of one that answers"):
        protocol(server, "digits")


@pytest.mark.parametrize(("server", "model"), [("\udcff:1", "digits"), ("localhost:1", "\udcff")])
def test_names_on_the_wire_are_utf_8(server, model):
    with pytest.raises(client.ServerError, match="server and model must be UTF-8"):
        client.Rest(server, model)


@pytest.mark.parametrize("version", [2**63 - 1, 10**23])
def test_an_export_needs_a_version_that_a_server_knows(tmp_path, version):
    (tmp_path / str(version)).mkdir()
    with pytest.raises(ValueError, match=r"export_dir must have versions below 9223372036854775807.*Received: .* has"):
        exporter.make_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [str(version)]


def test_the_last_version_can_still_be_written(tmp_path):
    (tmp_path / str(2**63 - 2)).mkdir()
    unfinished = exporter.make_folder(tmp_path)
    assert exporter._rename_to_next_version(unfinished, tmp_path).name == str(2**63 - 1)


def test_a_path_that_is_not_utf_8_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"workdir must be a path whose characters are UTF-8\. Received: '/tmp/\\udcff'"
    ):
        local_path("/tmp/\udcff", "workdir")
    assert local_path("/tmp/画像", "workdir") == pathlib.Path("/tmp/画像")


def test_what_may_be_meant_is_a_short_list():
    names = ["--workdir", "--list", "--config.train.steps", "--config.train.seed", "--config.data.folder"]
    assert did_you_mean("--steps", names) == "; did you mean --config.train.steps?"
    assert did_you_mean("--config.model.steps", names) == "; did you mean --config.train.steps?"
    assert did_you_mean("--fodler", names) == "; did you mean --config.data.folder?"
    assert did_you_mean("--colour", names) == ""
    assert did_you_mean("a.x", [f"{letter}.x" for letter in "bcdefg"]).count(",") == SHOWN - 1


def test_a_preset_is_printed_as_it_would_run(tmp_path):
    arguments = [CONFIG, "--config.train.steps=7", f"--workdir={tmp_path / 'run'}", "--print_config"]
    status, out, errors = run_command("train.main", *arguments)
    expected = presets.get("digits/vae")
    expected.train.steps = 7
    assert (status, config_lib.from_json(out)) == (0, expected), errors
    assert not list(tmp_path.iterdir())
    status, out, errors = run_command("train.main", CONFIG, "--config.train.learning_rate=nan", "--print_config")
    assert (status, out) == (1, "") and "train.learning_rate must be" in errors


KINDS = [Config, DataConfig, TrainConfig, ModelConfig, LevelConfig, *NETWORKS.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_config_is_explained(kind):
    """In its dataclass or a base of it, once: --help has no list of its own."""
    explained = [name for names in config_help.explained(kind) for name in names]
    fields = [field.name for field in dataclasses.fields(kind)]
    assert kind is Config or sorted({*explained, "network"}) == sorted({*fields, "network"})
    assert all(config_help.explained(kind).values())


def test_help_explains_the_fields_that_are_flags():
    status, out, _ = run_command("train.main", "--help")
    assert status == 0 and "Config(" not in out
    for line in ("    steps: optimizer steps in all.", "config.model.pixels, config.model.levels[0].prior: row_lstm"):
        assert f"{line}\n" in out
    assert "    num_classes: how many classes" in out and "    levels:" not in out and "    network:" not in out
    assert max(map(len, out[out.index("Fields of the config") :].splitlines())) <= 80


def test_the_fields_of_a_config_have_names():
    config = presets.get("digits/hierarchical")
    names = config_lib.field_names(config)
    assert {"train.steps", "model.levels[1].dim", "model.levels[0].prior.filters", "data.folder"} <= set(names)
    assert "model.levels" not in names and len(names) == len(set(names))
