"""Small real runs: each kind of network trains, resumes bit for bit, on replicas too, and from trained weights."""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_run import mirrored_config, small_config
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

# Only TensorFlow itself can switch it off again.
from tensorflow.python.framework import config as determinism
from test_trainer import StopAt
from tiny_run import saved_steps, tiny_report

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, model_card, presets, pretrained, runs
from pixelvae_tf.train import evaluation, initial_weights, steps, trainer
from pixelvae_tf.train.interruption import Interruption
from pixelvae_tf.train.strategies import make_strategy

DIGITS = "digits/gated_pixel_vae"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a run that has learnt something, and its config."""
    config = small_config(steps=60, steps_per_loop=20, evaluate_every=30, checkpoint_every=30, log_every=20)
    config.train.learning_rate, config.train.learning_rate_warmup_steps = 5e-3, 0
    workdir = tmp_path_factory.mktemp("run")
    trainer.train_and_evaluate(config, workdir, make_strategy("one_device"))
    return workdir, config


def test_training_lowers_the_bound(run):
    workdir, config = run
    fresh, (trained, _, step) = runs.build(config), runs.load(workdir, "latest")
    fresh.start_from(data.load(config.data, "train").images)
    validation = data.load(config.data, "validation")
    before, after = (evaluation.Evaluator(model)(validation)["bound_nats"] for model in (fresh, trained))
    assert step == 60 and after < before - 5
    # The images' marginal distribution is where an untrained model starts.
    values = data.load(config.data, "train").images
    frequencies = np.bincount(values.ravel(), minlength=256) / values.size
    entropy = -64 * np.sum(frequencies * np.log(frequencies + 1e-12))
    assert before == pytest.approx(entropy, rel=0.1)


def test_a_background_model_is_trained_on_mutated_images():
    config = small_config()
    images, strategy = data.load(config.data, "train"), make_strategy("one_device")
    plain = next(trainer._batches(config, images, strategy, 3))
    config.data.mutation = 0.5
    mutated = next(trainer._batches(config, images, strategy, 3))
    changed = np.mean(mutated["images"] != plain["images"])
    assert changed == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(plain["images"].numpy().size))


def test_training_fills_the_workdir(run):
    workdir, config = run
    assert runs.read_config(workdir) == config and saved_steps(workdir) == [30, 60]
    assert saved_steps(workdir, runs.BEST) == [60]
    assert {path.name for path in workdir.glob("*.*")} == {
        *(".lock", runs.CONFIG, runs.IMAGES, runs.LINEAGE, "samples.png", "reconstructions.png")
    }
    shown = {}
    for name in ("train", "validation"):
        accumulator = EventAccumulator(str(workdir / runs.TENSORBOARD / name)).Reload()
        shown[name] = {tag: [event.step for event in accumulator.Tensors(tag)] for tag in accumulator.Tags()["tensors"]}
    tags = ["loss_nats", "reconstruction_nats", "kl_nats_level_1", "gradient_norm", "clipped_steps", "learning_rate"]
    assert set(tags) <= set(shown["train"]) and all(steps == [20, 40, 60] for steps in shown["train"].values())
    tags = ["bound_nats", "bound_bpd", "kl_nats_level_1", "active_units_level_1", "samples", "reconstructions"]
    assert set(tags) <= set(shown["validation"]) and all(steps == [30, 60] for steps in shown["validation"].values())


@pytest.mark.parametrize(
    ("preset", "draws"),
    [
        pytest.param("gated_pixel_cnn_class_conditional", True, marks=pytest.mark.slow),
        ("diagonal_bilstm", True),
        pytest.param("row_lstm", False, marks=pytest.mark.slow),
        pytest.param("hierarchical", False, marks=pytest.mark.slow),
        ("pixel_cnn_pp_class_conditional", False),
    ],
)
def test_every_kind_of_network_trains_and_is_loaded(preset, draws, tmp_path):
    """Trains, evaluates, saves, is loaded and evaluated. What is drawn is the sampler's, which is slow to trace."""
    config = small_config(f"digits/{preset}", steps=2)
    runner = trainer.prepare(config, tmp_path, make_strategy("one_device"))
    start = runner.state.model.get_weights()
    if not draws:
        runner.draw = dict
    runner.run(Interruption())
    model, again, step = runs.load(tmp_path)
    assert again == config and step == 2 and (tmp_path / "samples.png").exists() == draws
    trained = runner.state.model.get_weights()
    # Some gradients are zero at the start.
    assert np.mean([(a != b).any() for a, b in zip(start, trained, strict=True)]) > 0.7
    report = evaluation.Evaluator(model, batch_size=20)(data.load(config.data, "test").first(20))
    assert np.isfinite(report["bound_nats"]) and report["exact"] == (not config.model.levels)


@pytest.fixture
def deterministic_ops():
    tf.config.experimental.enable_op_determinism()
    yield
    determinism.disable_op_determinism()


def _without_evaluation(config, workdir, strategy):
    """A trainer whose evaluation is made up: training is what a test is of."""
    runner = trainer.prepare(config, workdir, make_strategy(strategy))
    runner.evaluate, runner.draw = (lambda: tiny_report(9.0 - runner.step)), dict
    return runner


def test_a_run_that_was_killed_ends_with_the_same_weights_bit_for_bit(tmp_path, deterministic_ops):
    """Killed at step 5, with step 3 saved: TensorBoard gets steps 4 and 5 twice, and shows them once."""
    config = small_config(steps=6, clip_norm=50.0, kl_warmup_steps=4, checkpoint_every=3, log_every=1)
    config.train.learning_rate_warmup_steps, config.model.pixels.dropout, config.train.evaluate_every = 3, 0.3, 3
    whole = _without_evaluation(config, tmp_path / "whole", "one_device")
    whole.run(Interruption())

    killed = _without_evaluation(config, tmp_path / "resumed", "one_device")
    killed.loop = _killed_at(5, killed)
    with pytest.raises(KeyboardInterrupt):
        killed.run(Interruption())
    resumed = _without_evaluation(config, tmp_path / "resumed", "one_device")
    assert (killed.step, resumed.step) == (5, 3)
    resumed.run(Interruption())
    for state in (resumed.state, whole.state):
        assert (int(state.step), float(state.best_bound_nats)) == (6, 3.0)
    for of_state in ("model", "average", "optimizer"):
        variables = (getattr(runner.state, of_state).variables for runner in (resumed, whole))
        for a, b in zip(*variables, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    shown = [
        EventAccumulator(str(tmp_path / name / runs.TENSORBOARD / "train")).Reload() for name in ("whole", "resumed")
    ]
    shown = [{event.step: tf.make_ndarray(event.tensor_proto) for event in run.Tensors("loss_nats")} for run in shown]
    assert list(shown[1]) == list(range(1, 7)) and shown[0] == shown[1]


def _killed_at(step, runner):
    loop = runner.loop

    def killed(iterator, count):
        if runner.step == step:
            raise KeyboardInterrupt
        return loop(iterator, count)

    return killed


def test_a_mirrored_run_goes_on_and_stays_finished(tmp_path):
    config = mirrored_config(steps=4)
    runner = _without_evaluation(config, tmp_path, "mirrored")
    with pytest.raises(trainer.Interrupted):
        runner.run(StopAt(runner, 2))
    assert runs.load(tmp_path, "latest")[2] == 2
    for _ in range(2):
        trainer.train_and_evaluate(config, tmp_path, make_strategy("mirrored"))
    assert runs.load(tmp_path, "latest")[2] == 4 and (tmp_path / "samples.png").exists()


def test_a_run_starts_with_trained_weights_and_knows_their_lineage(run, tmp_path):
    trained, one_device = runs.load(run[0])[0], make_strategy("one_device")
    shutil.copytree(run[0], tmp_path / "first")
    # Weights are what must fit: how they are trained may be another way.
    config = small_config(steps=4, seed=1, initial_weights=str(tmp_path / "first"))
    config.model.pixels.dropout = 0.0
    second = trainer.prepare(config, tmp_path / "second", one_device)
    for model in (second.state.model, second.state.average):
        assert runs.fingerprint(model) == runs.fingerprint(trained)
    assert not list((tmp_path / "second").iterdir()), "nothing is written before the run begins"
    second.write_files()
    second.checkpoints.save()
    second.checkpoints.save_best()
    shutil.rmtree(tmp_path / "first")  # from now on they are the run's own
    trainer.prepare(config, tmp_path / "second", one_device).write_files()
    (training,) = runs.read_lineage(tmp_path / "second")
    command = presets.command_for(run[1], "runs/first")
    assert training == {"command": command, "step": 60, "fingerprint": runs.fingerprint(trained)}

    elsewhere = dataclasses.replace(config, train=dataclasses.replace(config.train, initial_weights="first"))
    config.train.initial_weights, command = str(tmp_path / "second"), presets.command_for(elsewhere, "runs/second")
    _, lineage = initial_weights.load(config, second.state.model)
    assert lineage == [training, {"command": command, "step": 0, "fingerprint": runs.fingerprint(trained)}]
    assert str(tmp_path) not in str(lineage), "it travels with the weights"


def test_a_training_is_listed_without_the_place_of_its_images(run):
    config = copy.deepcopy(run[1])
    model, there = runs.build(config), copy.deepcopy(config)
    there.data.data_dir = "/somewhere"
    trainings = [initial_weights.as_training(one, "runs/x", 60, model) for one in (config, there)]
    assert trainings[0] == trainings[1] and there.data.data_dir == "/somewhere"
    there.data.folder = "/home/me/photos"
    assert "folder=photos " in initial_weights.as_training(there, "runs/x", 60, model)["command"]


def test_a_finished_run_goes_on_with_the_optimizers_state(run, tmp_path, caplog):
    workdir, one_device = shutil.copytree(run[0], tmp_path / "run"), make_strategy("one_device")
    config = copy.deepcopy(run[1])
    finished = trainer.prepare(config, workdir, one_device).state
    config.train.steps = 80
    with caplog.at_level("INFO", "pixelvae_tf"):
        longer = trainer.prepare(config, workdir, one_device)
    assert "finished at step 60, goes on to step 80 with its optimizer's state" in caplog.text
    assert longer.step == 60 and runs.read_config(workdir) == run[1], "nothing is written before the run begins"
    of_both = zip(finished.optimizer.variables, longer.state.optimizer.variables, strict=True)
    assert all((before.numpy() == after.numpy()).all() for before, after in of_both)
    assert int(longer.state.optimizer.iterations) == 60
    expected = {"command": presets.command_for(run[1], "runs/run"), "step": 60, "same_run": True}
    expected["fingerprint"] = runs.fingerprint(runs.load(workdir, "latest")[0])
    # Again, where it was stopped at once, and where it was stopped before the new config was written.
    for written in (config, run[1]):
        longer.write_files()
        assert runs.read_config(workdir) == config and runs.read_lineage(workdir) == [expected]
        (workdir / runs.CONFIG).write_text(config_lib.to_json(written))
        longer = trainer.prepare(config, workdir, one_device)
    longer.write_files()
    assert runs.read_lineage(workdir) == [expected]
    facts = {"train": presets.command_for(config, workdir), "export": "pixelvae-export"}
    shown = "\n".join(model_card._commands(facts, runs.read_lineage(workdir)))
    assert (
        f"with the optimizer's state, from the last weights (step 60, fingerprint {expected['fingerprint']})" in shown
    )


def test_a_run_that_is_not_finished_keeps_its_number_of_steps(run, tmp_path):
    """The learning rates of what was done would be those of no run."""
    workdir, config = shutil.copytree(run[0], tmp_path / "run"), copy.deepcopy(run[1])
    config.train.steps = 90
    (workdir / runs.CONFIG).write_text(config_lib.to_json(config))
    config.train.steps = 100
    with pytest.raises(ValueError, match=r"train\.steps must be 90 until .* is finished, which is at step 60.*: 100"):
        trainer.prepare(config, workdir, make_strategy("one_device"))


def test_a_run_starts_with_pretrained_weights(tmp_path):
    config = presets.get(DIGITS)
    config.train.initial_weights = DIGITS
    runner = trainer.prepare(config, tmp_path, make_strategy("mirrored"))
    card = pretrained.load(DIGITS)[2]
    for model in (runner.state.model, runner.state.average):
        assert runs.fingerprint(model) == card["fingerprint"]
    runner.write_files()
    expected = {"command": card["commands"]["train"], "step": card["step"], "fingerprint": card["fingerprint"]}
    assert runs.read_lineage(tmp_path) == [expected]


def test_initial_weights_that_could_be_two_things_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run[0], DIGITS)
    config = small_config(initial_weights=DIGITS)
    model = runs.build(config)
    with pytest.raises(ValueError, match=rf"not both; \./{DIGITS} is the directory. Received: '{DIGITS}'"):
        initial_weights.load(config, model)
    config.train.initial_weights = f"./{DIGITS}"
    weights, _ = initial_weights.load(config, model)
    for name, weight in runs.weights_of(runs.load(run[0])[0]).items():
        np.testing.assert_array_equal(weights[name], weight)


def test_partial_initial_weights_are_those_that_both_models_have(run, tmp_path, monkeypatch):
    """A PixelCNN takes a PixelVAE's network of pixels, a deeper PixelVAE all but what is new and the contexts."""
    pixel_cnn, of_run = small_config(), runs.weights_of(runs.load(run[0])[0])
    pixel_cnn.model.levels = []
    deeper = small_config()
    deeper.model.pixels.num_layers += 1
    from_data = []
    monkeypatch.setattr(
        steps.TrainState, "start_from", lambda state, _: from_data.append(state.model.config.pixels.num_layers)
    )
    for name, config, new in (("pixel_cnn", pixel_cnn, set()), ("deeper", deeper, {"block_2"})):
        config.train.initial_weights, config.train.partial_initial_weights = str(run[0]), True
        state = trainer.prepare(config, tmp_path / name, make_strategy("one_device")).state
        for model in (state.model, state.average):
            weights = runs.weights_of(model)
            taken = {key for key in weights if key in of_run and "context" not in key}
            others = {key.split("/")[1] for key in weights.keys() - taken if "context" not in key}
            assert others == new
            for key in weights.keys() & of_run.keys():
                assert np.array_equal(weights[key], of_run[key]) == (key in taken), key
        assert runs.fingerprint(state.model) == runs.fingerprint(state.average)
    assert from_data == [2], "of the deeper one alone, as PixelCNN++ starts from the data layer by layer"


def test_partial_initial_weights_must_fit_and_be_some(run):
    config = small_config(initial_weights=str(run[0]), partial_initial_weights=True)
    config.model.levels, config.model.pixels.filters = [], 4
    with pytest.raises(ValueError, match=r"this model's shapes .*, where pixels/.* is \(.*\) and not \("):
        initial_weights.load(config, runs.build(config))
    config.model.pixels = small_config("digits/pixel_cnn").model.pixels
    with pytest.raises(ValueError, match=r"must share layers with this model\. Received: .*, with none"):
        initial_weights.load(config, runs.build(config))


def test_labels_and_other_networks_start_anew(run):
    """What is given a label beside the latents, and the last layer of a network of another kind."""
    of_run = runs.load(run[0])[0]
    options = {"initial_weights": str(run[0]), "partial_initial_weights": True}
    labelled, pixel_cnn = (small_config(**options) for _ in range(2))
    labelled.model.num_classes, pixel_cnn.model.pixels = 10, small_config("digits/pixel_vae").model.pixels
    for config, anew in ((labelled, "level_1/decoder/first/"), (pixel_cnn, "pixels/")):
        weights, _ = initial_weights.load(config, runs.build(config))
        missing = {name for name in runs.weights_of(of_run) if name not in weights}
        assert {name for name in missing if "context" not in name} == {
            name for name in runs.weights_of(of_run) if name.startswith(anew) and "context" not in name
        }


def test_the_posterior_of_a_level_with_a_learnt_prior_starts_anew():
    """Its sigma is bounded: the same numbers of the last layer are another one."""
    config = small_config()
    (level,) = config.model.levels
    level.grid = (4, 4)
    trained = runs.build(copy.deepcopy(config))
    level.prior = small_config("digits/hierarchical").model.levels[0].prior
    config.model.levels.append(config_lib.LevelConfig(level.dim, (8,), upsampling=True))
    shared = initial_weights._shared(trained, runs.build(config), "there")
    assert not any("/posterior_head/" in name or "/prior/" in name for name in shared)
    assert any(name.startswith("level_1/encoder/") for name in shared)


def test_initial_weights_may_have_been_of_another_precision(run, tmp_path):
    config = small_config(initial_weights=str(run[0]), dtype="float64")
    state = trainer.prepare(config, tmp_path / "run", make_strategy("one_device")).state
    for ours, theirs in zip(state.model.get_weights(), runs.load(run[0])[0].get_weights(), strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_array_equal(ours, theirs)


def test_initial_weights_must_be_there_and_fit(run, tmp_path):
    config = small_config(initial_weights=str(tmp_path / "nothing"))
    model = runs.build(config)
    missing = r"initial_weights must be the directory of a run or one of .*digits/gated_pixel_vae.*Received: .*nothing"
    with pytest.raises(ValueError, match=missing):
        initial_weights.load(config, model)
    with pytest.raises(ValueError, match=missing):
        trainer.prepare(config, tmp_path / "run", make_strategy("one_device"))
    assert not list((tmp_path / "run").iterdir())
    config.train.initial_weights = DIGITS
    with pytest.raises(
        ValueError,
        match=rf"of this architecture.*Received: '{DIGITS}', where .*pixels.filters is 32 in that model and 8 in this",
    ):
        initial_weights.load(config, model)
    shutil.copytree(run[0], tmp_path / "torn")
    (tmp_path / "torn" / runs.LINEAGE).write_text("[{")
    config.train.initial_weights = str(tmp_path / "torn")
    with pytest.raises(
        ValueError, match=r"must be the directory of a run .*lineage\.json of workdir must be as a run writes it"
    ):
        initial_weights.load(config, model)
