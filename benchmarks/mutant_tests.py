"""Copies of the checkout and their tests, for mutations.py: which come first, and how they run.

Every run is forked from this process, which has imported what takes seconds to import.
"""

import ast
import collections
import contextlib
import functools
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = {"pixelvae_tf": "pixelvae_tf", "train": "pixelvae_tf.train", "export": "pixelvae_tf.export"}
TEST_TIMEOUT_SECONDS = 300


def _module(path: pathlib.Path, checkout: pathlib.Path) -> str:
    """The dotted name of a file of a checkout; of one in tests/ its stem, as pytest imports it."""
    first, *rest = path.relative_to(checkout).with_suffix("").parts
    dotted = ".".join(rest) if first == "tests" else ".".join((PACKAGES[first], *rest))
    return dotted.removesuffix(".__init__")


def _imports(tree: ast.AST, modules: set[str]) -> set[str]:
    """The modules that a file names: in imports, or in a text such as "train.main"."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # A package stands for itself only where more than its modules is taken from it.
            found |= names if names <= modules else {*names, node.module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value, f"pixelvae_tf.{node.value}"}
    return found & modules


@functools.cache
def import_graph(checkout: pathlib.Path) -> dict[str, set[str]]:
    """Module -> the modules that it imports, of the library and its tests."""
    paths = [path for folder in (*PACKAGES, "tests") for path in (checkout / folder).rglob("*.py")]
    modules = {_module(path, checkout): path for path in paths}
    return {name: _imports(ast.parse(path.read_text()), set(modules)) - {name} for name, path in modules.items()}


def distances(graph: dict[str, set[str]], start: str) -> dict[str, int]:
    """How many imports lead from a module to each that it uses."""
    found, queue = {start: 0}, collections.deque([start])
    while queue:
        here = queue.popleft()
        for module in graph[here] - found.keys():
            found[module] = found[here] + 1
            queue.append(module)
    return found


def ordered_tests(checkout: pathlib.Path, file: str) -> list[str]:
    """The test files, those first that are closest to a file of the library and import the least."""
    graph, module = import_graph(checkout), _module(checkout / file, checkout)

    def key(path: pathlib.Path) -> tuple:
        used = distances(graph, path.stem)
        names = [f"test_{part}" for part in (pathlib.Path(file).parent.name, pathlib.Path(file).stem)]
        return path.stem not in names, used.get(module, len(graph)), len(used), path.stem

    return [str(path.relative_to(checkout)) for path in sorted((checkout / "tests").glob("test_*.py"), key=key)]


class Notes:
    """A pytest plugin that leaves in a file which tests started and which failed."""

    def __init__(self, path: pathlib.Path, checkout: pathlib.Path, seconds: float):
        self.path, self.checkout, self.seconds = path, checkout, seconds

    def _note(self, *words: str) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(words) + "\n")

    def pytest_sessionstart(self, session) -> None:
        """A test that takes long beside other jobs notices nothing."""
        for plugin in session.config.pluginmanager.get_plugins():
            if type(plugin).__name__ == "CpuGuard":
                plugin.limit = math.inf

    def pytest_sessionfinish(self, session) -> None:
        """What was tested must have been the copy."""
        for name in ("pixelvae_tf", "pixelvae_tf.train", "pixelvae_tf.export"):
            file = getattr(sys.modules.get(name), "__file__", None)
            if file and not pathlib.Path(file).resolve().is_relative_to(self.checkout):
                self._note("escaped", file)

    def pytest_runtest_logstart(self, nodeid, location) -> None:
        """Notes a test that starts."""
        self._note("started", nodeid)

    def pytest_runtest_logfinish(self, nodeid, location) -> None:
        """Stops when the time is up."""
        if sum(os.times()[:4]) > self.seconds:
            self._note("unfinished", nodeid)
            pytest.exit("the time is up", 0)

    def pytest_runtest_logreport(self, report) -> None:
        """Notes a test that fails."""
        if report.failed:
            self._note("failed", report.nodeid)

    def pytest_collectreport(self, report) -> None:
        """Notes a file that cannot be imported."""
        if report.failed:
            self._note("failed", report.nodeid)


def run_tests(checkout: pathlib.Path, arguments: list[str], seconds: float = math.inf) -> tuple[str, float]:
    """Runs pytest on a checkout, forked from this process, which has TensorFlow imported.

    Returns:
      The test that failed, or "" if all passed; and CPU seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        notes, log = pathlib.Path(folder, "notes"), pathlib.Path(folder, "log")
        notes.touch()
        child = os.fork()
        if not child:
            _pytest(checkout, arguments, Notes(notes, checkout, seconds), log)
        _, status, usage = os.wait4(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it left running
        lines = [json.loads(line) for line in notes.read_text().splitlines()]
        failed = [name for word, name in lines if word == "failed"]
        escaped = [name for word, name in lines if word == "escaped"]
        if escaped or (status and not lines):
            raise SystemExit(f"mutations: the tests of {checkout} cannot run. {escaped}\n{log.read_text()[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    if failed or not status:
        return (failed[0] if failed else ""), cpu
    return f"{lines[-1][1]} (crashed or hung)", cpu


def _pytest(checkout: pathlib.Path, arguments: list[str], notes: Notes, log: pathlib.Path) -> None:
    """In the child: pytest, as if it had been started in the checkout."""
    status = 1
    try:
        os.setsid()
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(checkout)
        # Processes of the tests' own import the copy too.
        os.environ["PYTHONPATH"] = str(checkout)
        sys.path.insert(0, str(checkout))
        sys.argv = ["pytest"]
        options = ["-x", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "not slow", "--tb=short"]
        timeout = ["-o", f"faulthandler_timeout={TEST_TIMEOUT_SECONDS}", "-o", "faulthandler_exit_on_timeout=true"]
        status = pytest.main([*options, *timeout, *arguments], plugins=[notes])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def make_copy(folder: pathlib.Path, suite: pathlib.Path) -> pathlib.Path:
    """A copy of the checkout, with the tests of a suite, that is imported as it is installed."""
    checkout = folder / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    shutil.copytree(suite / "tests", checkout / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train", "export"):  # as setup.py has it
        (checkout / "pixelvae_tf" / name).symlink_to(f"../{name}")
    if (ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
    return checkout


def import_what_tests_import() -> None:
    """Imported here once, and not in every process forked from this one. It starts nothing of TensorFlow's runtime."""
    import keras  # noqa: F401
    import tensorflow_datasets
    import tensorflow_probability

    # Both import most of themselves when an attribute is asked for.
    _ = tensorflow_probability.distributions.Normal, tensorflow_datasets.load
