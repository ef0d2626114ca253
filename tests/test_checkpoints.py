"""Checkpoints: the newest that can be read is gone on from, whatever is torn or missing; one process writes."""

import numpy as np
import pytest
import tensorflow as tf
from small_run import small_config
from tiny_run import TinyState, damage, saved_steps

from pixelvae_tf import runs
from pixelvae_tf.train import steps, workdir
from pixelvae_tf.train.checkpoints import Checkpoints

DAMAGES = ["torn", "missing", "noise", "empty"]


def _save(folder, bounds):
    """Checkpoints of a run whose evaluation after each step gave a bound; "best" as a trainer keeps it."""
    state = TinyState()
    checkpoints = Checkpoints(folder, state)
    for step, bound in bounds.items():
        state.advance(step - int(state.step))
        if bound < float(state.best_bound_nats):
            state.best_bound_nats.assign(bound)
            checkpoints.save_best()
        checkpoints.save()
    return checkpoints


def _data_files(folder):
    return sorted(folder.glob("*.data*"))


def test_the_newest_checkpoint_is_restored_and_two_are_kept(tmp_path):
    good = _save(tmp_path, {2: 9.0, 4: 7.0, 6: 8.0}).good
    assert saved_steps(tmp_path) == [4, 6] and saved_steps(tmp_path, runs.BEST) == [4]
    state = TinyState()
    checkpoints = Checkpoints(tmp_path, state)
    assert checkpoints.restore() and checkpoints.good == good == str(tmp_path / runs.CHECKPOINTS / "ckpt-6")
    assert int(state.step) == 6 and float(state.best_bound_nats) == 7.0
    assert (state.weights.numpy() == 6).all() and (state.average.numpy() == 6).all()


def test_a_new_run_has_no_checkpoint(tmp_path):
    state = TinyState()
    checkpoints = Checkpoints(tmp_path, state)
    assert not checkpoints.restore() and checkpoints.good is None
    assert int(state.step) == 0 and float(state.best_bound_nats) == np.inf
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, how):
    _save(tmp_path, {4: 9.0, 8: 7.0})
    damage(_data_files(tmp_path / runs.CHECKPOINTS)[-1], how)
    state = TinyState()
    checkpoints = Checkpoints(tmp_path, state)
    assert checkpoints.restore() and int(state.step) == 4 and (state.weights.numpy() == 4).all()
    assert float(state.best_bound_nats) == 7.0, "step 8 found better weights, which are there"
    for file in _data_files(tmp_path / runs.CHECKPOINTS):
        file.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"a checkpoint of this model that can be read\. .* where none of 2 can"):
        Checkpoints(tmp_path, TinyState()).restore()


@pytest.mark.parametrize("how", DAMAGES)
def test_checkpoints_are_read_without_their_list(tmp_path, how):
    """TensorFlow would read none, and the run would begin anew."""
    _save(tmp_path, {4: 9.0, 8: 7.0})
    for folder in (runs.CHECKPOINTS, runs.BEST):
        damage(tmp_path / folder / runs.LIST, how)
    state = TinyState()
    checkpoints = Checkpoints(tmp_path, state)
    assert checkpoints.restore() and int(state.step) == 8 and float(state.best_bound_nats) == 7.0
    state.advance(4)
    checkpoints.save()
    checkpoints.save_best()
    assert saved_steps(tmp_path) == [8, 12], "those of before make way"
    assert saved_steps(tmp_path, runs.BEST) == [12]


@pytest.mark.parametrize("how", ["torn", "missing"])
def test_best_weights_that_are_damaged_are_replaced_by_the_next(tmp_path, how):
    """However good they were: nobody can use them any more."""
    _save(tmp_path, {4: 5.0})
    damage(*_data_files(tmp_path / runs.BEST), how)
    state = TinyState()
    checkpoints = Checkpoints(tmp_path, state)
    assert checkpoints.restore() and float(state.best_bound_nats) == np.inf
    state.advance(4)
    state.best_bound_nats.assign(6.0)
    checkpoints.save_best()
    again = TinyState()
    Checkpoints(tmp_path, again).restore()
    assert float(again.best_bound_nats) == 6.0 and saved_steps(tmp_path, runs.BEST) == [8]


def test_one_process_at_a_time_trains_in_a_workdir(tmp_path):
    checkpoints = Checkpoints(tmp_path, TinyState())
    message = "workdir must be trained in by one pixelvae-train at a time"
    with workdir.lock(tmp_path), pytest.raises(BlockingIOError, match=message), checkpoints.locked():
        pytest.fail("two processes have the lock")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with checkpoints.locked():
        checkpoints.save()


def test_a_process_that_waited_does_not_go_on_from_an_old_checkpoint(tmp_path):
    """A scheduler starts the next one while the last one is still saving."""
    first, second = (Checkpoints(tmp_path, TinyState()) for _ in range(2))
    for process in (first, second):
        process.restore()
    with first.locked():
        first.save()
    message = "in which another one has trained since; run the same command again to go on"
    with pytest.raises(BlockingIOError, match=message), second.locked():
        pytest.fail("it has the lock")
    with first.locked():  # whose own they are
        first.save()


@pytest.mark.parametrize(("place", "write"), [(runs.CHECKPOINTS, "save"), (runs.BEST, "save_best")])
def test_a_full_disk_is_explained(tmp_path, place, write):
    """A file where a folder should be stands for it."""
    checkpoints = Checkpoints(tmp_path, TinyState())
    (tmp_path / place).touch()
    message = "workdir must be writable and have room for the run.* The last good checkpoint, none yet, is kept; when "
    with pytest.raises(OSError, match=message + "there is room, run the same command again to go on"):
        getattr(checkpoints, write)()
    (tmp_path / place).unlink()
    getattr(checkpoints, write)()
    assert saved_steps(tmp_path, place) == [0]


def test_the_last_good_checkpoint_is_named_where_the_next_cannot_be_written(tmp_path):
    checkpoints = _save(tmp_path, {4: 9.0})
    with pytest.raises(OSError, match=r"No room\. The last good checkpoint, .*/ckpt-4, is kept"), checkpoints.writing():
        raise OSError("No room")


def test_what_a_killed_process_had_half_written_is_removed(tmp_path):
    """TensorFlow writes a checkpoint into a folder of its own, and moves it."""
    checkpoints = _save(tmp_path, {4: 9.0})
    unfinished = [tmp_path / folder / "ckpt-6_temp" for folder in (runs.CHECKPOINTS, runs.BEST)]
    for folder in unfinished:
        folder.mkdir()
        (folder / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    with checkpoints.locked():
        assert not any(folder.exists() for folder in unfinished) and saved_steps(tmp_path) == [4]


def test_a_damaged_list_is_written_anew_by_the_process_that_trains_alone(tmp_path):
    _save(tmp_path, {4: 9.0})
    lists = [tmp_path / folder / runs.LIST for folder in (runs.CHECKPOINTS, runs.BEST)]
    for path in lists:
        path.unlink()
    waiting = Checkpoints(tmp_path, TinyState())
    assert waiting.restore() and not any(path.exists() for path in lists)
    waiting.save()
    waiting.save_best()
    assert all("ckpt-4" in path.read_text() for path in lists)


def test_a_checkpoint_that_is_replaced_while_it_is_looked_for_is_no_damage(tmp_path):
    """By a run that trains on, while another process evaluates its weights."""
    checkpoints = _save(tmp_path, {4: 9.0})
    read = []

    def replaced_at_first(path):
        read.append(path)
        if len(read) == 1:
            checkpoints.state.advance(4)
            checkpoints.save_best()
            raise tf.errors.NotFoundError(None, None, path)

    assert runs.read_newest(tmp_path / runs.BEST, replaced_at_first) == str(tmp_path / runs.BEST / "ckpt-8")
    assert [path[-1] for path in read] == ["4", "8"]


def test_checkpoints_hold_every_weight_of_a_network(tmp_path):
    """Keras 3 hides layers in lists from tf.train.Checkpoint; `runs.weights_of` must not."""
    state = steps.TrainState(small_config("digits/pixel_cnn_pp"))  # whose layers lie in lists in lists
    checkpoints = Checkpoints(tmp_path, state)
    checkpoints.save()
    checkpoints.save_best()
    for folder, kinds in ((runs.BEST, ["average"]), (runs.CHECKPOINTS, ["average", "model"])):
        names = [name for name, _ in tf.train.list_variables(str(tmp_path / folder / "ckpt-0"))]
        for kind in kinds:
            assert sum(name.startswith(f"{kind}/") for name in names) == len(state.model.variables)


def test_load_reads_the_averaged_weights_of_what_is_whole(tmp_path):
    """As training goes on: from the checkpoint before, and without the list."""
    config = small_config("digits/vae")
    state = steps.TrainState(config)
    checkpoints = Checkpoints(tmp_path, state)
    workdir.write_config(config, tmp_path)
    with pytest.raises(ValueError, match=r"must hold 'latest' weights; .* which has none"):
        runs.load(tmp_path, "latest")
    for step in (4, 8):
        state.step.assign(step)
        for weights in state.average.variables:
            weights.assign(tf.fill(weights.shape, float(step)))
        checkpoints.save()
    checkpoints.save_best()
    for folder in (runs.CHECKPOINTS, runs.BEST):
        (tmp_path / folder / runs.LIST).unlink()
    for weights in ("best", "latest"):
        model, its_config, step = runs.load(tmp_path, weights)
        assert step == 8 and its_config == config
        assert all((weights == 8).all() for weights in model.get_weights())
    for folder in (runs.CHECKPOINTS, runs.BEST):
        damage(_data_files(tmp_path / folder)[-1], "torn")
    model, _, step = runs.load(tmp_path, "latest")
    assert step == 4 and all((weights == 4).all() for weights in model.get_weights())
    with pytest.raises(ValueError, match=r"must hold 'best' weights of the model .* that can be read"):
        runs.load(tmp_path)
