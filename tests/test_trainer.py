"""The loop around training steps, on two weights: what happens when, what is saved, and how it stops."""

import functools
import signal
import types

import numpy as np
import pytest
import tensorflow as tf
from tiny_run import contents, saved_steps, tiny_config, tiny_report, tiny_totals, tiny_trainer

from pixelvae_tf import runs
from pixelvae_tf.train import workdir as workdir_lib
from pixelvae_tf.train.interruption import Interruption
from pixelvae_tf.train.trainer import Interrupted
from pixelvae_tf.train.workers import Workers


class StopAt:
    """An interruption by SIGTERM once a trainer has come to a step."""

    def __init__(self, trainer, step):
        self.trainer, self.step = trainer, step

    @property
    def signal(self):
        """Its number, or None."""
        return signal.SIGTERM if self.trainer.step >= self.step else None


def _watch(monkeypatch, owner, name, log, note):
    """Lets every call of a method be noted before it goes on."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def noting(*arguments, **options):
        log.append(note(*arguments))
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, noting)


@pytest.mark.parametrize(
    ("periods", "loops", "logged", "evaluated", "saved"),
    [
        ((2, 2, 4, 4), [2, 4, 6, 8, 10], [2, 4, 6, 8, 10], [4, 8, 10], [4, 8, 10]),
        ((50, 4, 3, 7), [3, 4, 6, 7, 8, 9, 10], [4, 8, 10], [3, 6, 9, 10], [3, 6, 7, 9, 10]),
        ((3, 50, 50, 50), [3, 6, 9, 10], [10], [10], [10]),
    ],
)
def test_everything_happens_at_its_steps_and_at_the_last(
    tmp_path, monkeypatch, periods, loops, logged, evaluated, saved
):
    names = ("steps_per_loop", "log_every", "evaluate_every", "checkpoint_every")
    trainer = tiny_trainer(tmp_path, tiny_config(steps=10, **dict(zip(names, periods, strict=True))))
    ends, written, saves = [], [], []
    _watch(monkeypatch, trainer, "loop", ends, lambda iterator, count: trainer.step + int(count))
    _watch(monkeypatch, trainer.reports, "write", written, lambda name, step, *_: (name, step))
    _watch(monkeypatch, trainer.checkpoints, "save", saves, lambda due: trainer.step)
    trainer.run(Interruption())
    assert ends == loops and saves == saved
    assert [step for name, step in written if name == "train"] == logged
    assert [step for name, step in written if name == "validation"] == evaluated


def test_logs_are_means_since_the_last_log(tmp_path, monkeypatch):
    trainer, scalars = tiny_trainer(tmp_path, tiny_config(log_every=4, steps_per_loop=1)), []
    _watch(monkeypatch, trainer.reports, "write", scalars, lambda name, step, values, *_: (name, values))
    trainer.run(Interruption())
    trains = [values for name, values in scalars if name == "train"]
    assert [values["clipped_steps"] for values in trains] == [4, 4]
    assert all(values["loss_nats"] == 3 and values["kl_nats_level_1"] == 1 for values in trains)
    assert all(values["learning_rate"] == 0.5 for values in trains)


def test_ignored_latents_are_warned_of_in_the_log_and_in_tensorboard(tmp_path, monkeypatch, caplog):
    trainer, written = tiny_trainer(tmp_path, tiny_config(kl_warmup_steps=(5,))), []
    _watch(monkeypatch, trainer.reports, "write", written, lambda *arguments: arguments[4:])
    trainer.evaluate = lambda: {**tiny_report(1.0), "usage_latents_nats": [0.1]}
    trainer.run(Interruption())
    (said,) = [record.getMessage() for record in caplog.records if "latents" in record.getMessage()]
    assert said.startswith("The latents of level 1 are all but ignored")
    assert [warnings for (warnings,) in filter(None, written)] == [[], [said]]


def test_the_best_weights_are_those_of_the_lowest_bound(tmp_path):
    bound = {2: 5.0, 4: 3.0, 6: 4.0, 8: 3.0}.get
    trainer = tiny_trainer(tmp_path, tiny_config(evaluate_every=2), bound)
    trainer.run(Interruption())
    assert saved_steps(tmp_path, runs.BEST) == [4] and float(trainer.state.best_bound_nats) == 3.0
    assert saved_steps(tmp_path) == [6, 8]


@pytest.mark.parametrize("step", [4, 8])
@pytest.mark.parametrize("part", ["evaluate", "draw"])
def test_an_evaluation_that_ends_the_process_costs_no_step_and_is_made_up_for(tmp_path, monkeypatch, part, step):
    """For example by a lack of memory, or a system that does not wait for it; also at the last step."""
    undisturbed, disturbed = tmp_path / "one", tmp_path / "other"
    tiny_trainer(undisturbed).run(Interruption())
    trainer = tiny_trainer(disturbed)
    whole = getattr(trainer, part)
    setattr(trainer, part, lambda: pytest.fail("no memory") if trainer.step == step else whole())
    with pytest.raises(pytest.fail.Exception):
        trainer.run(Interruption())
    assert saved_steps(disturbed)[-1] == step
    trainer, written = tiny_trainer(disturbed), []
    _watch(monkeypatch, trainer.reports, "write", written, lambda name, at, *_: (name, at))
    trainer.run(Interruption())
    assert [at for name, at in written if name == "validation"] == [at for at in (4, 8) if at >= step]
    assert [saved_steps(disturbed, folder) for folder in (runs.CHECKPOINTS, runs.BEST)] == [
        saved_steps(undisturbed, folder) for folder in (runs.CHECKPOINTS, runs.BEST)
    ]
    assert not (disturbed / runs.DUE).exists()


def test_a_signal_during_an_evaluation_is_answered_after_it(tmp_path, monkeypatch):
    """By no further step: all was saved before."""
    trainer, saves = tiny_trainer(tmp_path), []
    _watch(monkeypatch, trainer.checkpoints, "save", saves, lambda due: (trainer.step, due))
    interruption = types.SimpleNamespace(signal=None)
    draw = trainer.draw
    trainer.draw = lambda: setattr(interruption, "signal", signal.SIGTERM) or draw()
    with pytest.raises(Interrupted):
        trainer.run(interruption)
    assert saves == [(4, True)] and trainer.step == 4 and saved_steps(tmp_path, runs.BEST) == [4]
    trainer.evaluate = None
    assert not trainer.checkpoints.evaluation_is_due


def test_a_signal_while_an_evaluation_is_made_up_for_is_answered_by_no_step(tmp_path):
    trainer = tiny_trainer(tmp_path)
    with pytest.raises(Interrupted):
        trainer.run(StopAt(trainer, 4))  # saved, and not evaluated
    trainer = tiny_trainer(tmp_path)
    trainer.loop = None
    with pytest.raises(Interrupted):
        trainer.run(StopAt(trainer, 4))
    assert saved_steps(tmp_path, runs.BEST) == [4] and not trainer.checkpoints.evaluation_is_due


def test_a_validation_bound_that_is_not_finite_is_said(tmp_path, caplog):
    trainer = tiny_trainer(tmp_path, bound=lambda step: float("nan"))
    trainer.run(Interruption())
    assert "The validation bound is not finite at step 4" in caplog.text and not saved_steps(tmp_path, runs.BEST)


@pytest.mark.parametrize("stop", [4, 5, 6])
def test_an_interrupted_run_saves_once_and_goes_on(tmp_path, monkeypatch, stop, caplog):
    """Also at a step that is saved anyway: while a checkpoint is written again it is not whole."""
    trainer, saves = tiny_trainer(tmp_path, tiny_config(steps_per_loop=1)), []
    _watch(monkeypatch, trainer.checkpoints, "save", saves, lambda due: trainer.step)
    with pytest.raises(Interrupted) as stopped:
        trainer.run(StopAt(trainer, stop))
    assert stopped.value.code == 128 + signal.SIGTERM and trainer.step == stop
    assert f"Stopped by signal 15 at step {stop}; all is saved" in caplog.text
    assert saves == sorted({4, stop}) and saved_steps(tmp_path) == saves
    trainer = tiny_trainer(tmp_path)
    assert trainer.step == stop
    trainer.run(Interruption())
    assert saved_steps(tmp_path)[-1] == 8 and (trainer.state.weights.numpy() == 8).all()


def test_a_finished_run_stays_finished(tmp_path):
    tiny_trainer(tmp_path).run(Interruption())
    before = contents(tmp_path)
    trainer = tiny_trainer(tmp_path)
    trainer.loop = trainer.evaluate = trainer.draw = None
    trainer.run(Interruption())
    after = contents(tmp_path)
    rewritten = {path.name for path in before if after[path] != before[path]}
    assert set(after) == set(before) and rewritten <= {".lock", runs.CONFIG}


def test_a_run_that_goes_on_reports_from_the_step_after_its_checkpoint(tmp_path, monkeypatch):
    for step, expected in ((5, 1), (8, 6)):
        trainer, opened = tiny_trainer(tmp_path, tiny_config(steps_per_loop=1)), []
        _watch(monkeypatch, trainer.reports, "open", opened, lambda step, due: step + 1 - due)
        with pytest.raises(Interrupted):
            trainer.run(StopAt(trainer, step))
        assert opened == [expected]


def _worse(step):
    return 1.0 + step


@pytest.mark.parametrize("killed", [False, True])
def test_initial_weights_that_training_makes_worse_stay_the_best(tmp_path, monkeypatch, killed):
    """Also where the run was killed between their first checkpoint and their evaluation."""
    config = tiny_config(initial_weights="somewhere")
    if killed:
        trainer = tiny_trainer(tmp_path, config, _worse)
        trainer.evaluate = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.run(Interruption())
        assert saved_steps(tmp_path) == [0] and not saved_steps(tmp_path, runs.BEST)
    trainer, saves, opened = tiny_trainer(tmp_path, config, _worse), [], []
    _watch(monkeypatch, trainer.checkpoints, "save", saves, lambda due: trainer.step)
    _watch(monkeypatch, trainer.reports, "open", opened, lambda step, due: step + 1 - due)
    trainer.run(Interruption())
    assert saved_steps(tmp_path, runs.BEST) == [0] and saved_steps(tmp_path) == [4, 8]
    assert saves == ([4, 8] if killed else [0, 4, 8]) and opened == [0]


def test_initial_weights_are_evaluated_once(tmp_path):
    """Killed after that: they are the run's own from then on."""
    config = tiny_config(initial_weights="somewhere")
    trainer = tiny_trainer(tmp_path, config)
    trainer.loop = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(Interruption())
    assert saved_steps(tmp_path) == saved_steps(tmp_path, runs.BEST) == [0]
    trainer, evaluated = tiny_trainer(tmp_path, config), []
    evaluate = trainer.evaluate
    trainer.evaluate = lambda: evaluated.append(trainer.step) or evaluate()
    trainer.run(Interruption())
    assert evaluated == [4, 8]


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path):
    trainer = tiny_trainer(tmp_path, tiny_config(checkpoint_every=2))
    loop = trainer.loop

    def poisoned(iterator, count):
        if trainer.step < 4:
            return loop(iterator, count)
        trainer.state.advance(int(count))
        return tiny_totals(int(count), 5, (True, False, True))

    trainer.loop = poisoned
    with pytest.raises(FloatingPointError, match=r"not finite at step 5: reconstruction, gradient\. .*ckpt-4, is kept"):
        trainer.run(Interruption())
    assert saved_steps(tmp_path) == [2, 4] and tiny_trainer(tmp_path).step == 4


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """The loss of the step that spoils them was finite: it was of the weights before."""
    trainer = tiny_trainer(tmp_path, tiny_config(steps_per_loop=1, checkpoint_every=1, evaluate_every=1))
    loop = trainer.loop

    def spoiling(iterator, count):
        totals = loop(iterator, count)
        trainer.state.weights.assign([1.0, np.inf])
        return totals

    trainer.loop = spoiling
    with pytest.raises(FloatingPointError, match=r"the weights are not finite after step 0\. The last good .*none yet"):
        trainer.run(Interruption())
    assert not saved_steps(tmp_path) and not saved_steps(tmp_path, runs.BEST)


@pytest.mark.parametrize("place", [".lock", "config.json", "samples.png", "checkpoints", "best", "tensorboard"])
def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(tmp_path, place):
    """What cannot be written stands for it: a folder where a file should be, and a file where a folder should."""
    obstacle = tmp_path / place
    obstacle.mkdir() if "." in place else obstacle.write_text("")
    good = ".*ckpt-4" if place in {"best", "samples.png"} else "none yet"  # they are written by the evaluation
    message = f"workdir must be writable and have room for the run.* The last good checkpoint, {good}, is kept; when "
    with pytest.raises(OSError, match=message + "there is room"):
        tiny_trainer(tmp_path).run(Interruption())
    obstacle.rmdir() if obstacle.is_dir() else obstacle.unlink()
    tiny_trainer(tmp_path).run(Interruption())
    assert saved_steps(tmp_path)[-1] == 8


def test_what_fails_while_it_is_drawn_is_not_taken_for_a_full_disk(tmp_path):
    trainer = tiny_trainer(tmp_path)
    trainer.draw = lambda: (_ for _ in ()).throw(tf.errors.ResourceExhaustedError(None, None, "out of memory"))
    with pytest.raises(tf.errors.ResourceExhaustedError):
        trainer.run(Interruption())


def test_the_lock_is_held_while_a_run_trains_and_given_back(tmp_path):
    trainer = tiny_trainer(tmp_path)
    with workdir_lib.lock(tmp_path):
        with pytest.raises(BlockingIOError, match="one pixelvae-train at a time"):
            trainer.run(Interruption())
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    loop = trainer.loop

    def locked(iterator, count):
        with pytest.raises(BlockingIOError), workdir_lib.lock(tmp_path):
            pytest.fail("the run does not hold the lock")
        return loop(iterator, count)

    trainer.loop = locked
    trainer.run(Interruption())
    with workdir_lib.lock(tmp_path):
        assert saved_steps(tmp_path)[-1] == 8


def test_a_second_ctrl_c_does_not_wait_for_the_saving():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        assert interruption.signal is None
        for number in (signal.SIGINT, signal.SIGTERM):  # a system may ask twice, and is answered by the saving
            signal.raise_signal(number)
            assert interruption.signal == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_closed_stops_a_run_unless_it_is_ignored(ignored):
    """As by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with Interruption() as interruption:
            if not ignored:
                signal.raise_signal(signal.SIGHUP)
            assert interruption.signal == (None if ignored else signal.SIGHUP)
            assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) == ignored
    finally:
        signal.signal(signal.SIGHUP, before)


class _Others(Workers):
    """Workers of which this one is not the chief, and another one was asked to stop at a step."""

    def __init__(self, state, step):
        super().__init__(tf.distribute.get_strategy())
        self.is_chief, self.state, self.stop, self.parted = False, state, step, 0

    def exchange(self, numbers):
        asked = signal.SIGINT if int(self.state().step) >= self.stop else 0
        return np.array([[asked], list(numbers)])

    def part(self):
        self.parted += 1


def test_another_worker_does_the_same_and_writes_nothing(tmp_path, caplog):
    caplog.set_level("INFO", "pixelvae_tf")
    here = types.SimpleNamespace()
    workers = _Others(lambda: here.trainer.state, 6)
    here.trainer = tiny_trainer(tmp_path, workers=workers)
    with pytest.raises(Interrupted) as stopped:
        here.trainer.run(Interruption())
    assert stopped.value.code == 128 + signal.SIGINT and here.trainer.step == 6 and workers.parted == 1
    assert float(here.trainer.state.best_bound_nats) == 96.0 and "step 4, validation: bound_nats 96" in caplog.text
    assert not list(tmp_path.iterdir())
