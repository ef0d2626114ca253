"""What a run survives: pixelvae-train, in processes of its own, while everything around it goes wrong.

    python benchmarks/faults.py [--kills=50] [--seed=0] [--faults=kill,disk] [--jobs=2]

The runs are small (a VAE on 8x8 digits, 200 steps, a checkpoint every 10) and deterministic, so that there is one right
answer: every checkpoint of a run that nothing disturbed. Each fault happens to a run of its own (but kill -9, again and
again to the same); then the same command is given until the run is at its end. The columns:

    times      how often
    went on    the run, or the same command with nothing put back
    stopped    with a message (a run that is told to stop in its start-up just stops); what it was about put right, the
               same command went on
    otherwise  a traceback, a crash, a run that hangs or does not come to its end
    lost       checkpoints that were complete, were not damaged by the fault itself, and cannot be read or gone on from
    wrong      checkpoints that are not bit for bit those of the undisturbed run, and ends of runs without theirs

The last three must be zero.
"""

import collections
import concurrent.futures
import functools
import itertools
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from disturbed import (
    DATA,
    HALFWAY,
    KILLED,
    LOOP,
    OTHERWISE,
    PERIOD,
    STEPS,
    STOPPED,
    WENT_ON,
    Counts,
    Life,
    Run,
    Undisturbed,
    disturb,
)
from PIL import Image

from pixelvae_tf import data, runs
from pixelvae_tf.config import DataConfig

_KILLS = flags.DEFINE_integer("kills", 50, "How many kill -9.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of all that is random.")
_FAULTS = flags.DEFINE_list("faults", [], "Which kinds; all by default.")
_JOBS = flags.DEFINE_integer("jobs", os.cpu_count(), "Runs at a time.", lower_bound=1)
DAMAGES = ("missing", "torn", "a bit flipped")
LAST = f"ckpt-{STEPS}{DATA}"


def damage(path: pathlib.Path, how: str, rng: random.Random) -> None:
    """Makes something else of a file where it lies; a folder can be missing alone."""
    if how == "missing":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    with path.open("r+b") as file:
        content = bytearray(file.read())
        place = rng.randrange(len(content))
        content[place] ^= 1 << rng.randrange(8)
        file.seek(0)
        file.write(rng.randbytes(len(content)) if how == "noise" else content)
        file.truncate(place if how == "torn" else len(content))


# The faults. Each gives cases: the line of the table that they count for, and a function of a folder of their own and a
# generator of random numbers that returns counts.


def kill(digits: Undisturbed):
    """kill -9 at random."""
    for job in range(_JOBS.value):
        if number := len(range(job, _KILLS.value, _JOBS.value)):
            yield "kill -9", functools.partial(_kill, digits, number)


def _kill(digits: Undisturbed, number: int, folder: pathlib.Path, rng: random.Random) -> Counts:
    total = Counts()
    while (done := sum(total.outcomes.values())) < number:
        run, times, outcome = Run(digits, folder), 0, KILLED
        while outcome == KILLED:
            unfinished, life = _unfinished(run), run.start()
            if done + times < number:
                _kill_sometime(run, life, rng)
            outcome = run.end(life)
            times += outcome == KILLED
            hit = outcome == KILLED and not _unfinished(run) <= unfinished
            run.counts.notes["kill -9 while a file was being written"] += hit
        total.add(run.close(outcome, times))
        _show(f"kill -9: {done + times} of {number}")
    return total


def _unfinished(run: Run) -> set[tuple]:
    """What interrupted writes have left."""
    paths = [path for path in run.workdir.rglob("*") if re.search(r"_temp|\.tmp|\.unfinished", path.name)]
    return {(path, path.stat().st_mtime_ns) for path in paths}


def _kill_sometime(run: Run, life: Life, rng: random.Random) -> None:
    moment = rng.choices(("start-up", "tracing", "training", "writing"), (1, 1, 3, 5))[0]
    newest = run.newest
    if moment != "start-up":
        life.wait_until(lambda: life.trains)
    if moment in ("training", "writing"):
        life.wait_until(lambda: run.newest > newest)
    time.sleep(rng.uniform(0, {"start-up": 8, "tracing": 3}.get(moment, 1)))
    if moment == "writing":
        life.wait_until(run.is_writing)
        time.sleep(rng.uniform(0, 0.005))
    life.process.kill()


def checkpoint(digits: Undisturbed):
    """Files of a run are damaged before it goes on, or is evaluated."""
    latest = [f"{runs.CHECKPOINTS}/ckpt-{step}" for step in (HALFWAY, HALFWAY - PERIOD)]
    best = f"{runs.BEST}/ckpt-{HALFWAY}"
    groups = {
        "the newest checkpoint": [[latest[0] + DATA], [latest[0] + ".index"]],
        "the list of checkpoints": [[f"{kind}/{runs.LIST}"] for kind in (runs.CHECKPOINTS, runs.BEST)],
        "all checkpoints": [[path + DATA for path in latest], [path + ".index" for path in latest]],
        "the best weights": [[best + DATA], [best + ".index"]],
        "config.json or images.json": [[runs.CONFIG], [runs.IMAGES]],
    }
    for (name, group), how in itertools.product(groups.items(), DAMAGES):
        for files in group:
            yield f"{how}: {name}", functools.partial(_damaged, digits, files, how)
    for how in DAMAGES:
        yield "damaged: the best weights, evaluated", functools.partial(_evaluated, digits, best + DATA, how)


def _damaged(digits: Undisturbed, files: list[str], how: str, folder: pathlib.Path, rng: random.Random) -> Counts:
    run = Run(digits, folder, halfway=True)
    return disturb(
        run,
        before=lambda: [damage(run.workdir / file, how, rng) for file in files],
        repair=lambda: shutil.copytree(digits.half, run.workdir, dirs_exist_ok=True),
    )


def _evaluated(digits: Undisturbed, file: str, how: str, folder: pathlib.Path, rng: random.Random) -> Counts:
    run = Run(digits, folder, halfway=True)
    damage(run.workdir / file, how, rng)
    outcome = Life([f"--workdir={run.workdir}"], "train.evaluate_main").end()
    # There is nothing to evaluate instead.
    return Counts(collections.Counter([STOPPED if outcome == STOPPED else OTHERWISE]))


def disk(digits: Undisturbed):
    """Files that cannot grow beyond a limit, by which the next one fails; file systems that are all but full."""
    # The limit lets those pass that are smaller; TensorBoard's file of pictures outgrows the last one.
    checkpoint_size = digits.sizes[f"{runs.CHECKPOINTS}/{LAST}"]
    for limit in (digits.sizes[runs.CONFIG] - 1, checkpoint_size - 1, checkpoint_size):
        yield "a limit on the size of files", functools.partial(_limited, digits, limit)
    for _ in range(8):
        yield "a full file system", functools.partial(_full, digits)


def _limited(digits: Undisturbed, limit: int, folder: pathlib.Path, rng: random.Random) -> Counts:
    def during(life: Life) -> None:
        resource.prlimit(life.process.pid, resource.RLIMIT_FSIZE, (limit, limit))

    return disturb(Run(digits, folder, halfway=rng.random() < 0.5), during=during)


def _full(digits: Undisturbed, folder: pathlib.Path, rng: random.Random) -> Counts:
    """A file system in memory with little room until it is repaired; needs the right to mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        return Counts(notes=collections.Counter(["full file systems that could not be mounted"]))
    try:
        run, ballast = Run(digits, folder, halfway=rng.random() < 0.5), folder / "ballast"
        room = rng.randrange(3 * digits.sizes[f"{runs.CHECKPOINTS}/{LAST}"])
        ballast.write_bytes(bytes(shutil.disk_usage(folder).free - room))
        return disturb(run, repair=ballast.unlink)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def images(digits: Undisturbed):
    """Images of a folder, and shards made of it, that disappear, are cut, or become noise."""
    folder = digits.folder / "sources"
    raw, shards = folder / "images", folder / "shards"
    raw.mkdir(parents=True)
    for number, image in enumerate(data.load(DataConfig("digits"), "train").images[:400]):
        Image.fromarray(image[..., 0]).save(raw / f"{number:03}.png")
    prepare = [str(raw), "--size=8", "--channels=1", "--duplicate_distance=-1", "--shard_size=64", f"--output={shards}"]
    if Life(prepare, "train.prepare_main").end() != WENT_ON:
        raise SystemExit("faults: the images must be prepared")
    shard, hows = "train-00002.npy", ("missing", "torn", "noise")
    before_a_start = {
        raw: [("", "missing"), *(("200.png", how) for how in hows)],
        shards: list(itertools.product((shard, "manifest.json"), hows)),
    }
    while_training = {raw: [("", "missing")], shards: [(shard, how) for how in hows]}
    for source in (raw, shards):
        (folder / f"of_{source.name}").mkdir()
        options = ("--config.data.name=photos", f"--config.data.folder={source}")
        undisturbed = Undisturbed(folder / f"of_{source.name}", *options)
        for halfway, cases in ((True, before_a_start), (False, while_training)):
            for file, how in cases[source]:
                label = f"{how} {'before a start' if halfway else 'while training'}: {source.name}"
                yield label, functools.partial(_harmed, undisturbed, source, halfway, file, how)


def _harmed(
    undisturbed: Undisturbed,
    source: pathlib.Path,
    halfway: bool,
    file: str,
    how: str,
    folder: pathlib.Path,
    rng: random.Random,
) -> Counts:
    copy = folder / "data"
    shutil.copytree(source, copy)
    run = Run(undisturbed, folder, halfway, [f"--config.data.folder={copy}"])

    def harm(life: Life | None = None) -> None:
        if life is not None:
            life.wait_until(lambda: run.newest >= HALFWAY // 2)
        damage(copy / file, how, rng)

    when = {"before": harm} if halfway else {"during": harm}
    return disturb(run, **when, repair=lambda: shutil.copytree(source, copy, dirs_exist_ok=True))


def sigterm(digits: Undisturbed):
    """SIGTERM in every phase, and at random."""
    trainer, start_up, running = "pixelvae_tf.train.trainer", "SIGTERM in the start-up", "SIGTERM in a phase of the run"
    for label, *phase in (
        (start_up, "pixelvae_tf.data", "load", 1),
        (start_up, "pixelvae_tf.train.steps", "TrainState", 1),
        (start_up, "pixelvae_tf.train.checkpoints", "Checkpoints.restore", 1),
        (running, "pixelvae_tf.train.workdir", "write_config", 1),
        (running, "pixelvae_tf.train.steps", "_train_step", 1),  # is being traced
        (running, trainer, "Trainer._after_loop", 7),
        (running, trainer, "Trainer._log", 3),
        (running, "pixelvae_tf.train.evaluation", "Evaluator.__call__", 2),
        (running, "pixelvae_tf.pictures", "write_png", 3),
        (running, "tensorflow", "train.CheckpointManager.save", 4),
        (running, trainer, "Trainer._after_loop", STEPS // LOOP),  # the last
        (running, "pixelvae_tf.progress", "Progress.close", 1),  # all is done
    ):
        yield label, functools.partial(_terminated, digits, tuple(map(str, phase)))
    for number in range(8):
        yield "SIGTERM at random", functools.partial(_terminated_sometime, digits, number % 2 == 1)


def _terminated(digits: Undisturbed, phase: tuple[str, ...], folder: pathlib.Path, rng: random.Random) -> Counts:
    del rng
    return disturb(Run(digits, folder), trick=("terminate", *phase))


def _terminated_sometime(digits: Undisturbed, writing: bool, folder: pathlib.Path, rng: random.Random) -> Counts:
    run = Run(digits, folder, halfway=True)

    def during(life: Life) -> None:
        life.wait_until(lambda: life.trains)
        time.sleep(rng.uniform(0, 4))
        if writing:
            life.wait_until(run.is_writing)
        life.process.terminate()

    return disturb(run, during=during)


def not_a_number(digits: Undisturbed):
    """A batch with an image whose log-probability is NaN."""
    for _ in range(4):
        yield "NaN in an image's log-probability", functools.partial(_poisoned, digits)


def _poisoned(digits: Undisturbed, folder: pathlib.Path, rng: random.Random) -> Counts:
    # The noise of earlier steps is also that of the evaluation.
    return disturb(Run(digits, folder), trick=("poison", str(rng.randrange(20, STEPS))))


FAULTS = {fault.__name__: fault for fault in (kill, checkpoint, disk, images, sigterm, not_a_number)}


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def do(place: pathlib.Path, names: list[str]) -> dict[str, Counts]:
    """Lets the faults of some names happen; returns the lines of the table."""
    table: dict[str, Counts] = collections.defaultdict(Counts)
    start = time.monotonic()
    digits = Undisturbed(place)
    with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
        for name in names:
            folder = place / name
            folder.mkdir()
            cases = list(FAULTS[name](digits))

            def one(number: int, name=name, folder=folder, cases=cases) -> tuple[str, Counts]:
                label, case = cases[number]
                (folder / str(number)).mkdir()
                counts = case(folder / str(number), random.Random(f"{_SEED.value} {name} {number}"))
                _show(f"{name} {number + 1} of {len(cases)}, {time.monotonic() - start:.0f} s: {label}: {counts}")
                return label, counts

            for label, counts in pool.map(one, range(len(cases))):
                table[label].add(counts)
    return table


def report(table: dict[str, Counts]) -> Counts:
    """Prints the table; returns the sum of its lines."""
    columns, total = (WENT_ON, STOPPED, OTHERWISE), Counts()
    print(f"{'':45}  " + "  ".join(("times", *columns, "lost", "wrong")))
    for counts in table.values():
        total.add(counts)
    for label, counts in {**table, "all": total}.items():
        numbers = [
            sum(counts.outcomes.values()),
            *(counts.outcomes[name] for name in columns),
            counts.lost,
            counts.wrong,
        ]
        widths = (5, *map(len, columns), 4, 5)
        print(f"{label:45}  " + "  ".join(f"{n:{width}}" for n, width in zip(numbers, widths, strict=True)))
    for note, number in total.notes.items():
        print(f"{note}: {number}")
    return total


def main(argv: list[str]) -> None:
    """Lets all happen and prints the table."""
    del argv
    names = _FAULTS.value or list(FAULTS)
    if unknown := set(names) - set(FAULTS):
        raise SystemExit(f"faults must be some of {', '.join(FAULTS)}. Received: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as place:
        total = report(do(pathlib.Path(place), names))
    if total.lost or total.wrong or total.outcomes[OTHERWISE]:
        raise SystemExit("faults: nothing may be lost, be wrong or end otherwise")


if __name__ == "__main__":
    app.run(main)
