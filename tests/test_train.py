"""Training: replicas equal one device, resumed equals uninterrupted, evaluation is of the split, not of batches."""

import copy
import dataclasses
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from small_run import CPUS, largest_difference, small_config

# Only TensorFlow itself can switch it off again.
from tensorflow.python.framework import config as determinism

from pixelvae_tf import data, files, presets, pretrained, runs
from pixelvae_tf.train import evaluation, schedules, steps, trainer, workdir
from pixelvae_tf.train.interruption import Interruption

BEST_BOUND = "best_bound_nats/.ATTRIBUTES/VARIABLE_VALUE"


def test_training_lowers_the_bound_and_fills_the_workdir(tmp_path):
    config = small_config(steps=60, steps_per_loop=20, evaluate_every=30, checkpoint_every=30, log_every=20)
    config.train.learning_rate, config.train.learning_rate_warmup_steps = 5e-3, 0
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    for name in ("config.json", "samples.png", "reconstructions.png", "tensorboard/train", "tensorboard/validation"):
        assert (tmp_path / name).exists(), name
    assert runs.read_config(tmp_path) == config
    fresh, trained = runs.build(config), runs.load(tmp_path, "latest")
    fresh.start_from(data.load(config.data, "train").images)
    assert trained[2] == 60
    validation = data.load(config.data, "validation")
    reached = [evaluation.Evaluator(model)(validation)["bound_nats"] for model in (fresh, trained[0])]
    assert reached[1] < reached[0] - 5
    # The images' marginal distribution is where an untrained model starts.
    values = data.load(config.data, "train").images
    frequencies = np.bincount(values.ravel(), minlength=256) / values.size
    entropy = -64 * np.sum(frequencies * np.log(frequencies + 1e-12))
    assert reached[0] == pytest.approx(entropy, rel=0.1)


@pytest.mark.parametrize(
    "preset",
    [
        "diagonal_bilstm",
        "pixel_cnn_pp_class_conditional",
        *(pytest.param(preset, marks=pytest.mark.slow) for preset in ("vae", "row_lstm")),
    ],
)
def test_every_kind_of_model_goes_through_the_road(preset, tmp_path):
    """Trains, draws, saves, is loaded and evaluated, labels and all."""
    config = small_config(f"digits/{preset}", steps=4)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    model, again, step = runs.load(tmp_path)
    assert again == config and step == 4 and (tmp_path / "samples.png").exists()
    small = data.load(config.data, "test")
    small = dataclasses.replace(small, images=small.images[:30], labels=small.labels[:30])
    report = evaluation.Evaluator(model, batch_size=20, importance_samples=2)(small)
    assert np.isfinite(report["bound_nats"]) and report["exact"] == (not config.model.levels)
    if config.model.num_classes:
        shuffled = dataclasses.replace(small, labels=(small.labels + 1) % 10)
        assert evaluation.Evaluator(model, batch_size=20)(shuffled)["bound_nats"] != report["bound_nats"]


@pytest.mark.parametrize(
    ("labels", "found"), [(None, "none"), (np.arange(3), r"0\.\.2"), (np.array([-1, 1]), r"-1\.\.1")]
)
def test_classes_must_fit_the_labels(labels, found, tmp_path, monkeypatch):
    config = small_config("digits/gated_pixel_cnn_class_conditional")
    config.model.num_classes = 2
    images = dataclasses.replace(data.load(config.data, "train"), labels=labels)
    monkeypatch.setattr(data, "load", lambda *_: images)
    with pytest.raises(ValueError, match=f"model.num_classes must be 0, or fit the labels of .* are: {found}"):
        trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))


class _StopAt(Interruption):
    """Asks to stop once the training has come to a step."""

    def __init__(self, runner, step):
        super().__init__()
        self.runner, self.at = runner, step

    @property
    def signal(self):
        return signal.SIGTERM if self.runner.step >= self.at else None

    @signal.setter
    def signal(self, value):
        pass


@pytest.fixture
def deterministic_ops():
    tf.config.experimental.enable_op_determinism()
    yield
    determinism.disable_op_determinism()


def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, deterministic_ops):
    config = small_config(clip_norm=50.0, kl_warmup_steps=6, learning_rate_warmup_steps=3)
    config.model.pixels.dropout = 0.3
    outcomes = []
    for stops in ((), (6,)):
        workdir = tmp_path / str(len(stops))
        for stop in (*stops, None):
            runner = trainer.Trainer(config, workdir, trainer.make_strategy("one_device"))
            runner.restore()
            if stop is None:
                runner.run(Interruption())
                break
            with pytest.raises(trainer.Interrupted):
                runner.run(_StopAt(runner, stop))
            assert runner.step == stop
        state = runner.state
        outcomes.append(
            [v.numpy() for v in (*state.model.variables, *state.average.variables, *state.optimizer.variables)]
            + [state.step.numpy(), state.best_bound_nats.numpy()]
        )
    for a, b in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_mirrored_run_goes_on_and_stays_finished(tmp_path):
    config = small_config(steps=8)
    runner = trainer.Trainer(config, tmp_path, trainer.make_strategy("mirrored"))
    runner.restore()
    with pytest.raises(trainer.Interrupted):
        runner.run(_StopAt(runner, 4))
    for _ in range(2):
        trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("mirrored"))
    mirrored = runs.load(tmp_path, "latest")
    assert mirrored[2] == 8 and (tmp_path / "samples.png").exists()


def test_a_run_starts_with_trained_weights_and_knows_their_lineage(tmp_path):
    one_device = trainer.make_strategy("one_device")
    first = small_config(steps=4)
    trainer.train_and_evaluate(first, tmp_path / "first", one_device)
    trained, _, _ = runs.load(tmp_path / "first")
    # Weights are what must fit: how they are trained may be another way.
    second = small_config(steps=4, seed=1, initial_weights=str(tmp_path / "first"))
    second.model.pixels.dropout = 0.0
    run = trainer.Trainer(second, tmp_path / "second", one_device)
    run.restore()
    assert runs.fingerprint(run.state.model) == runs.fingerprint(run.state.average) == runs.fingerprint(trained)
    assert not (tmp_path / "second" / runs.LINEAGE).exists(), "nothing is written before the run begins"

    # As if killed before its first checkpoint: from then on they are its own.
    run._after_loop = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run.run(Interruption())
    assert runs.load(tmp_path / "second")[2] == 0, "evaluated as they came"
    shutil.rmtree(tmp_path / "first")
    trainer.train_and_evaluate(second, tmp_path / "second", one_device)
    assert runs.load(tmp_path / "second", "latest")[2] == 4
    (training,) = runs.read_lineage(tmp_path / "second")
    command = presets.command_for(first, tmp_path / "first")
    assert training == {"command": command, "step": 4, "fingerprint": runs.fingerprint(trained)}
    third = small_config(steps=2, evaluate_every=2, initial_weights=str(tmp_path / "second"))
    trainer.train_and_evaluate(third, tmp_path / "third", one_device)
    lineage = runs.read_lineage(tmp_path / "third")
    assert lineage[0] == training and lineage[1]["command"] == presets.command_for(second, tmp_path / "second")
    assert f"--config.train.initial_weights={tmp_path / 'first'}" in lineage[1]["command"]


def test_a_run_starts_with_pretrained_weights(tmp_path):
    name = "digits/gated_pixel_vae"
    config = presets.get(name)
    config.train.initial_weights = name
    run = trainer.Trainer(config, tmp_path, trainer.make_strategy("mirrored"))
    run.restore()
    card = pretrained.load(name)[2]
    assert runs.fingerprint(run.state.model) == runs.fingerprint(run.state.average) == card["fingerprint"]
    expected = {"command": card["commands"]["train"], "step": card["step"], "fingerprint": card["fingerprint"]}
    assert run.lineage == [expected]


@pytest.mark.parametrize("killed", [False, True])
def test_weights_that_only_get_worse_stay_the_best(tmp_path, killed):
    """Also where the run was killed between their first checkpoint and their evaluation."""
    name = "digits/gated_pixel_vae"
    config = presets.get(name)
    config.train = dataclasses.replace(
        config.train, initial_weights=name, steps=2, learning_rate=0.1, learning_rate_warmup_steps=0, clip_norm=0.0
    )
    if killed:
        run = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
        run.restore()
        run._evaluate = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            run.run(Interruption())
        assert runs.checkpoints(tmp_path / runs.CHECKPOINTS)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    model, _, step = runs.load(tmp_path)
    assert step == 0 and runs.fingerprint(model) == pretrained.load(name)[2]["fingerprint"]
    assert runs.load(tmp_path, "latest")[2] == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_optimizer_takes_the_steps_of_keras_own(dtype):
    """The same gradients to both: through a network, five steps would make much of a last bit."""
    config = small_config(learning_rate_warmup_steps=3, learning_rate_decay="cosine", dtype=dtype)
    strategy = trainer.make_strategy("one_device")
    ours, keras_own = states = [steps.TrainState(config) for _ in range(2)]
    start = ours.model.get_weights()
    keras_own.model.set_weights(start)
    rng = np.random.default_rng(0)
    for _ in range(5):
        gradients = [tf.constant(rng.normal(size=v.shape), v.dtype) for v in ours.model.trainable_variables]
        steps._update_weights(strategy, ours, gradients)
        keras_own.optimizer.apply(gradients, keras_own.model.trainable_variables)
    assert [int(state.optimizer.iterations) for state in states] == [5, 5]
    for first, second in zip(ours.optimizer.variables, keras_own.optimizer.variables, strict=True):
        # Some roundings of float32, at values of about 1.
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6 if dtype == "float32" else 0, err_msg=first.path)
    # Keras rounds its betas to float32 whatever the dtype, which is 1e-5 of 1 - 0.999.
    assert largest_difference(start, ours.model.get_weights()) > 1e-3
    assert largest_difference(ours.model.get_weights(), keras_own.model.get_weights()) < 1e-6


def test_initial_weights_that_could_be_two_things_are_refused(tmp_path, monkeypatch):
    name = "digits/gated_pixel_vae"
    monkeypatch.chdir(tmp_path)
    trainer.train_and_evaluate(small_config(steps=4), name, trainer.make_strategy("one_device"))
    config = small_config(steps=4, initial_weights=name)
    run = trainer.Trainer(config, "run", trainer.make_strategy("one_device"))
    with pytest.raises(ValueError, match=rf"not both; \./{name} is the directory. Received: '{name}'"):
        run.restore()
    config.train.initial_weights = f"./{name}"
    run.restore()
    assert runs.fingerprint(run.state.model) == runs.fingerprint(runs.load(name)[0])


def test_initial_weights_must_be_there_and_fit(tmp_path):
    one_device = trainer.make_strategy("one_device")
    config = small_config(initial_weights=str(tmp_path / "nothing"))
    expected = r"initial_weights must be the directory of a run or one of .*digits/gated_pixel_vae.*Received: .*nothing"
    with pytest.raises(ValueError, match=expected):
        trainer.Trainer(config, tmp_path / "run", one_device).restore()
    config.train.initial_weights = "digits/gated_pixel_vae"
    expected = "of this architecture.*Received: 'digits/gated_pixel_vae', where .*pixels.filters is 32 there and 8 here"
    with pytest.raises(ValueError, match=expected):
        trainer.Trainer(config, tmp_path / "run", one_device).restore()
    assert not list((tmp_path / "run").iterdir())
    trainer.train_and_evaluate(small_config(steps=4), tmp_path / "torn", one_device)
    (tmp_path / "torn" / runs.LINEAGE).write_text("[{")
    config.train.initial_weights = str(tmp_path / "torn")
    with pytest.raises(
        ValueError, match=r"must be the directory of a run .*lineage\.json of workdir must be as a run writes it"
    ):
        trainer.Trainer(config, tmp_path / "run", one_device).restore()


def test_a_failed_start_leaves_no_trace(tmp_path):
    """A wrong first command must not keep the right second one out."""
    config = small_config(steps=2)
    wrong = copy.deepcopy(config)
    wrong.model.num_values = 4
    with pytest.raises(ValueError, match="must fit the images"):
        trainer.train_and_evaluate(wrong, tmp_path, trainer.make_strategy("one_device"))
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    moved = copy.deepcopy(config)
    moved.data.data_dir, moved.train.log_every = "elsewhere", 1  # change no weight, so they may change
    trainer.train_and_evaluate(moved, tmp_path, trainer.make_strategy("one_device"))
    assert runs.read_config(tmp_path) == moved


DATA_FILE = "ckpt-8.data-00000-of-00001"


def _damage(path, how):
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes({"torn": content[: len(content) // 2], "noise": content[::-1], "empty": b""}[how])


@pytest.mark.parametrize("damage", ["torn", "missing", pytest.param("noise", marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    config = small_config("digits/vae", steps=8)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    _damage(tmp_path / runs.CHECKPOINTS / DATA_FILE, damage)
    assert runs.load(tmp_path, "latest")[2] == 4
    runner = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
    runner.restore()
    assert runner.step == 4
    best = float(tf.train.load_checkpoint(runner.best.latest_checkpoint).get_tensor(BEST_BOUND))
    assert float(runner.state.best_bound_nats) == best, "better weights were found than step 4 knows of"
    for broken in (tmp_path / runs.CHECKPOINTS).glob("*.data*"):
        broken.unlink()
    with pytest.raises(ValueError, match="a checkpoint of this model that can be read"):
        trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device")).restore()


@pytest.mark.parametrize(
    "damage", ["torn", "missing", *(pytest.param(how, marks=pytest.mark.slow) for how in ("noise", "empty"))]
)
def test_checkpoints_are_found_without_their_list(tmp_path, damage):
    """TensorFlow would find none, and the run would begin anew."""
    config = small_config("digits/vae", steps=8)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    for folder in (runs.CHECKPOINTS, runs.BEST):
        _damage(tmp_path / folder / runs.LIST, damage)
    assert runs.load(tmp_path, "best")[2] == runs.load(tmp_path, "latest")[2] == 8
    runner = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
    runner.restore()
    assert runner.step == 8 and np.isfinite(float(runner.state.best_bound_nats))
    runner.latest.save(checkpoint_number=9)
    assert len(runs.checkpoints(tmp_path / runs.CHECKPOINTS)) == 2, "those of before make way"


@pytest.mark.parametrize("damage", ["torn", "missing"])
def test_best_weights_that_are_damaged_are_replaced_by_the_next(tmp_path, damage):
    """However good they were: nobody can use them any more."""
    config = small_config("digits/vae", steps=8, evaluate_every=8)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    _damage(tmp_path / runs.CHECKPOINTS / DATA_FILE, "missing")
    for path in (tmp_path / runs.BEST).glob("*.data*"):
        _damage(path, damage)
    with pytest.raises(ValueError, match=r"must hold 'best' weights of the model .* that can be read"):
        runs.load(tmp_path)
    runner = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
    runner.restore()
    assert runner.step == 4 and float(runner.state.best_bound_nats) == np.inf
    runner.run(Interruption())
    assert runs.load(tmp_path)[2] == 8


def test_one_process_at_a_time_trains_in_a_workdir(tmp_path):
    config = small_config("digits/vae", steps=2)
    with workdir.lock(tmp_path):
        with pytest.raises(BlockingIOError, match="workdir must be trained in by one pixelvae-train at a time"):
            trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    assert runs.load(tmp_path, "latest")[2] == 2


def test_a_process_that_waited_does_not_train_on_from_an_old_checkpoint(tmp_path):
    """A scheduler starts the next one while the last one is still saving."""
    config = small_config("digits/vae", steps=8, evaluate_every=8)
    first, second = (trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device")) for _ in range(2))
    for process in (first, second):
        process.restore()
    with pytest.raises(trainer.Interrupted):
        first.run(_StopAt(first, 4))
    with pytest.raises(BlockingIOError, match="in which another one has trained since; the same command goes on"):
        second.run(Interruption())
    assert runs.load(tmp_path, "latest")[2] == 4
    first.run(Interruption())  # whose own they are
    assert runs.load(tmp_path, "latest")[2] == 8


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomically(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_single_image_has_no_standard_error():
    config = small_config("digits/vae")
    image = data.load(config.data, "test").first(1)
    report = evaluation.Evaluator(runs.build(config), importance_samples=2)(image)
    assert report["bound_standard_error"] is report["importance_weighted_standard_error"] is None
    assert np.isfinite(report["bound_nats"])


@pytest.mark.parametrize(
    "place",
    [
        "samples.png",
        "checkpoints",
        *(pytest.param(place, marks=pytest.mark.slow) for place in (".lock", "best", "tensorboard")),
    ],
)
def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(tmp_path, place):
    """What cannot be written stands for it: a folder where a file should be, and a file where a folder should."""
    config = small_config("digits/vae", steps=8)
    obstacle = tmp_path / place
    obstacle.mkdir() if "." in place else obstacle.write_text("")
    message = "workdir must be writable and have room for the run.* The last good checkpoint, none yet, is kept; when "
    message += "there is room"
    with pytest.raises(OSError, match=message):
        trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    obstacle.rmdir() if obstacle.is_dir() else obstacle.unlink()
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    assert runs.load(tmp_path, "latest")[2] == 8


def test_a_checkpoint_is_written_once(tmp_path):
    """While it is written again it is not whole: SIGTERM at a step that is saved anyway must not do that."""
    config = small_config("digits/vae", steps=8)
    runner = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
    runner.restore()
    save, saved = runner.latest.save, []
    runner.latest.save = lambda checkpoint_number: saved.append(checkpoint_number) or save(checkpoint_number)
    with pytest.raises(trainer.Interrupted):
        runner.run(_StopAt(runner, 4))
    assert saved == [4] and runs.load(tmp_path, "latest")[2] == 4


def summaries(workdir, writer):
    """What TensorBoard got: {(step, tag): value}."""
    (events,) = (workdir / runs.TENSORBOARD / writer).glob("events*")
    return {
        (event.step, value.tag): tf.make_ndarray(value.tensor)
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }


def test_ignored_latents_are_said_after_the_warm_up(tmp_path, caplog):
    config = small_config(steps=8, kl_warmup_steps=4, evaluate_every=2, learning_rate=1e-9)
    for share, expected in ((0.0, [4, 6, 8]), (1.0, [])):
        caplog.clear()
        runner = trainer.Trainer(config, tmp_path / str(share), trainer.make_strategy("one_device"))
        runner.restore()
        for model in (runner.state.model, runner.state.average):
            head = model.levels[0].posterior_head
            head.g.assign(tf.zeros(8))  # q(z | x) is N(share, I), for every x
            head.bias.assign([share] * 4 + [0.0] * 4)
        runner.run(Interruption())
        written = summaries(tmp_path / str(share), "validation")
        assert [step for step, tag in written if tag == "warning"] == expected
        messages = [record.getMessage() for record in caplog.records if record.name == "pixelvae_tf"]
        messages = [message for message in messages if "latents" in message]
        assert len(messages) == len(expected)
        assert all("latents of level 1 are all but ignored" in message for message in messages)
        assert all("train.kl_warmup_steps (now 4) or train.free_nats" in message for message in messages)
        assert float(written[8, "kl_nats_level_1"]) == pytest.approx(4 * share**2 / 2, abs=1e-3)


def test_clipped_steps_are_counted_over_all_loops(tmp_path):
    config = small_config(clip_norm=1e-3, log_every=4, steps_per_loop=1, steps=4)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    scalars = {tag: float(value) for (_, tag), value in summaries(tmp_path, "train").items()}
    assert (scalars["clipped_steps"], scalars["clipped_share"]) == (4, 1)
    assert scalars["loss_nats"] > 0 and "kl_nats_level_1" in scalars


def test_checkpoints_hold_every_weight(tmp_path):
    """Keras 3 hides layers in lists from tf.train.Checkpoint; `runs.weights_of` must not."""
    config = small_config(steps=2)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    names = {name for name, _ in tf.train.list_variables(str(tmp_path / runs.BEST / "ckpt-2"))}
    model = runs.build(config)
    assert sum(name.startswith("average/") for name in names) == len(model.variables)
    assert any("pixels.Sblock_1" in name and name.startswith("average/") for name in names)


def test_another_config_is_refused_and_nothing_is_lost(tmp_path):
    config = small_config(steps=2)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    other = copy.deepcopy(config)
    other.train.learning_rate, other.model.levels[0].dim = 0.5, 7
    with pytest.raises(ValueError, match=r"model.levels\[0\].dim is 4 there and 7 here; train.learning_rate is"):
        trainer.train_and_evaluate(other, tmp_path, trainer.make_strategy("one_device"))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = small_config(steps=8, checkpoint_every=2, evaluate_every=8)
    runner = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
    runner.restore()
    original = runner.loop

    def poisoned(iterator, count):
        if runner.step == 4:
            runner.state.model.levels[0].posterior_head.bias.assign(float("nan") * tf.ones(8))
        return original(iterator, count)

    runner.loop = poisoned
    with pytest.raises(FloatingPointError, match=r"not finite at step 4: reconstruction, kl, gradient.*ckpt-4"):
        runner.run(Interruption())
    again = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
    again.restore()
    assert again.step == 4
    assert all(np.isfinite(weights).all() for weights in again.state.model.get_weights())


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """The loss of the step that spoils them was finite: it was of the weights before."""
    config = small_config("digits/vae", steps=4, checkpoint_every=1, evaluate_every=1, learning_rate=1e39)
    runner = trainer.Trainer(config, tmp_path, trainer.make_strategy("one_device"))
    runner.restore()
    with pytest.raises(FloatingPointError, match=r"the weights are not finite after step 0\. The last good .*none yet"):
        runner.run(Interruption())
    assert not runs.checkpoints(tmp_path / runs.CHECKPOINTS) and not runs.checkpoints(tmp_path / runs.BEST)


@pytest.mark.parametrize("latents", [True, False])
def test_evaluation_does_not_depend_on_batches_or_replicas(latents):
    config = small_config()
    if not latents:
        config.model.levels = []
    validation = data.load(config.data, "validation")
    reports = []
    for strategy, batch_size in ((None, 200), (None, 33), (tf.distribute.MirroredStrategy(CPUS), 45)):
        with strategy.scope() if strategy else tf.name_scope("one"):
            model = runs.build(config)
        reports.append(evaluation.Evaluator(model, strategy, batch_size, importance_samples=4)(validation))
    for report in reports[1:]:
        for key in ("bound_nats", "reconstruction_nats", "importance_weighted_nats", "kl_nats"):
            # The same float32 sums an image, by kernels that may split them another way for another batch.
            np.testing.assert_allclose(report[key], reports[0][key], rtol=1e-6)
        assert report["num_images"] == 200 and report["active_units"] == reports[0]["active_units"]
    assert reports[0]["exact"] is not latents
    if not latents:
        assert reports[0]["importance_weighted_nats"] == pytest.approx(reports[0]["bound_nats"], rel=1e-6)


def test_schedules():
    config = small_config(steps=100, learning_rate=1.0, learning_rate_warmup_steps=10, kl_warmup_steps=20).train
    rate = schedules.LearningRate(config)
    assert config.learning_rate_decay == "cosine"
    assert float(rate(0)) == pytest.approx(0.1) and float(rate(9)) == pytest.approx(0.98, abs=0.01)
    assert float(rate(50)) == pytest.approx(0.5) and float(rate(100)) == pytest.approx(0.0, abs=1e-6)
    config.learning_rate_decay = "drop"
    assert (float(rate(89)), float(rate(90))) == (1.0, pytest.approx(0.1))
    config.learning_rate_drop_at, config.learning_rate_drop_factor = 0.45, 0.5
    assert (float(rate(44)), float(rate(45))) == (1.0, 0.5)
    config.learning_rate_decay = "none"
    assert float(rate(99)) == 1.0
    decays = [float(schedules.average_decay(config, tf.constant(step))) for step in (0, 10, 10_000)]
    assert decays == pytest.approx([0.1, 11 / 20, 0.9])


def test_strategies():
    assert trainer.make_strategy("auto").num_replicas_in_sync == 1
    assert trainer.make_strategy("mirrored").num_replicas_in_sync == 2
    with pytest.raises(ValueError, match="strategy must be one of"):
        trainer.make_strategy("magic")


def test_images_must_fit_the_model(tmp_path):
    config = small_config()
    config.model.num_values = 2
    with pytest.raises(ValueError, match="must fit the images of digits/train"):
        trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
