"""Mutation testing: makes small faults in the library, one at a time, and asks which test notices.

    python benchmarks/mutations.py --jobs=2                     # all of them; half an hour
    python benchmarks/mutations.py --only=noise                 # those whose file or reason matches
    python benchmarks/mutations.py --suite=../older_checkout    # with the tests of another checkout

The faults are in benchmarks/mutants/*.toml: under the file that has it, the exact text, what takes its place, in a line
what is wrong then, and the test that should notice, in `noticed_by`. A text that is not in its file exactly once stops
the script: whoever changes the library changes the list.

Each fault is made in a temporary copy of the checkout, whose tests run until the first one fails: first the one that
should notice, then the files that import the faulty module directly, then the others, those that import little before
those that import much. A test that fails in the copy without the fault too notices nothing, and is left out. A process
that crashes, or a test that hangs, counts as noticing. After --seconds of CPU the fault counts as not noticed.

Outcomes are kept in runs/mutations, so that the same command goes on where it was. Those of tests that have changed
since are asked for again. At the end it prints a table in Markdown; the CPU seconds of a fault are those of all tests
up to the one that noticed.
"""

import argparse
import ast
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator

from mutant_tests import ROOT, distances, import_graph, import_what_tests_import, make_copy, ordered_tests, run_tests

MUTANTS, OUTCOMES = ROOT / "benchmarks" / "mutants", ROOT / "runs" / "mutations"
MOST_BROKEN_TESTS = 20


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A fault: in `file`, `new` stands instead of `old`; `why` says what is wrong then.

    `noticed_by` is tried first: a file of tests/ and a function, as "test_noise.py::test_streams_differ".
    """

    file: str
    old: str
    new: str
    why: str
    noticed_by: str = dataclasses.field(default="", repr=False)

    def apply(self, checkout: pathlib.Path) -> str:
        """The text of the file with the fault.

        Raises:
          SystemExit: if the old text is not in it exactly once, or the new one is no Python.
        """
        text = (checkout / self.file).read_text()
        if text.count(self.old) != 1:
            raise SystemExit(
                f"mutations: {self.file} must hold this exactly once, not {text.count(self.old)} times, "
                f"for {self.why!r}:\n{self.old}"
            )
        changed = text.replace(self.old, self.new)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise SystemExit(f"mutations: {self.file} is no Python any more for {self.why!r}: {error}") from error
        return changed


def load(pattern: str) -> list[Mutant]:
    """The mutants of all lists whose file or reason matches a pattern."""
    found = []
    for path in sorted(MUTANTS.glob("*.toml")):
        for file, entries in tomllib.loads(path.read_text()).items():
            found += [Mutant(file, **entry) for entry in entries]
    chosen = [mutant for mutant in found if re.search(pattern, f"{mutant.file}: {mutant.why}")]
    for mutant in chosen:
        mutant.apply(ROOT)
    return chosen


@functools.cache
def _tests_digest(suite: pathlib.Path, test: str) -> str:
    """Of what an outcome depends on: the noticing test's file and the helpers it imports, or all tests for none."""
    paths = sorted((suite / "tests").glob("*.py"))
    if test:
        graph = import_graph(suite)
        used = {"conftest"} | distances(graph, pathlib.Path(test.partition("::")[0]).stem).keys()
        paths = [path for path in paths if path.stem in used]
    code = hashlib.sha256()
    for path in paths:
        code.update(path.name.encode() + path.read_bytes())
    return code.hexdigest()[:16]


def _outcome_path(what: str, suite: pathlib.Path) -> pathlib.Path:
    return OUTCOMES / f"{hashlib.sha256(f'{suite} {what}'.encode()).hexdigest()[:16]}.json"


def _read(what: str, suite: pathlib.Path) -> dict | None:
    """A known outcome, unless the tests that it depends on have changed since."""
    outcome = _read_last(what, suite)
    return outcome if outcome and outcome["digest"] == _tests_digest(suite, outcome["test"]) else None


def _read_last(what: str, suite: pathlib.Path) -> dict | None:
    """The last outcome, also if its tests have changed since."""
    path = _outcome_path(what, suite)
    return json.loads(path.read_text()) if path.exists() else None


def _first_tests(mutant: Mutant, suite: pathlib.Path) -> list[str]:
    """The test that noticed a mutant last, and the one that should, with all their cases, if they are still there."""
    outcome, tests = _read_last(repr(mutant), suite), []
    for name in (outcome["test"] if outcome else "", f"tests/{mutant.noticed_by}"):
        file, _, function = name.partition("[")[0].partition("::")
        if function and (suite / file).exists() and f"def {function}(" in (suite / file).read_text():
            tests.append(f"{file}::{function}")
    return list(dict.fromkeys(tests))


def _write(what: str, suite: pathlib.Path, outcome: dict) -> None:
    path = _outcome_path(what, suite)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Other jobs read it.
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps({**outcome, "digest": _tests_digest(suite, outcome["test"])}) + "\n")
    part.replace(path)


def _fails_anyway(test: str, checkout: pathlib.Path, suite: pathlib.Path) -> bool:
    """Whether a test fails without any fault."""
    key = f"without a fault: {test}"
    if (outcome := _read(key, suite)) is None:
        outcome = {"test": test, "fails": bool(run_tests(checkout, [test])[0])}
        _write(key, suite, outcome)
    return outcome["fails"]


def examine(mutant: Mutant, checkout: pathlib.Path, suite: pathlib.Path, seconds: float) -> dict:
    """Makes a fault and runs tests until one notices.

    Returns:
      {"test": which, "" for none, "cpu": seconds}.
    """
    path = checkout / mutant.file
    intact, changed = path.read_text(), mutant.apply(checkout)
    tests, deselected, total = ordered_tests(checkout, mutant.file), [], 0.0
    if first := _first_tests(mutant, suite):
        path.write_text(changed)
        try:
            test, total = run_tests(checkout, first, seconds)
        finally:
            path.write_text(intact)
        if test and not _fails_anyway(test.removesuffix(" (crashed or hung)"), checkout, suite):
            return {"test": test, "cpu": round(total, 1)}
    for _ in range(MOST_BROKEN_TESTS):
        path.write_text(changed)
        try:
            test, cpu = run_tests(checkout, [*tests, *(f"--deselect={name}" for name in deselected)], seconds)
        finally:
            path.write_text(intact)
        total += cpu
        name = test.removesuffix(" (crashed or hung)")
        if not test or not _fails_anyway(name, checkout, suite):
            return {"test": test, "cpu": round(total, 1)}
        deselected.append(name)
        # The files before it passed.
        tests = tests[tests.index(name.partition("::")[0]) :]
    raise SystemExit(f"mutations: too many tests fail without a fault, such as {deselected}")


def work(mutants: list[Mutant], suite: pathlib.Path, seconds: float) -> None:
    """Examines mutants whose outcomes are not known yet."""
    with tempfile.TemporaryDirectory(prefix="mutations_") as folder:
        checkout = make_copy(pathlib.Path(folder).resolve(), suite)
        for mutant in mutants:
            if _read(repr(mutant), suite) is None:
                outcome = examine(mutant, checkout, suite, seconds)
                _write(repr(mutant), suite, outcome)
                caught = outcome["test"] or "NOT NOTICED"
                print(f"{outcome['cpu']:6.1f} s  {mutant.file}: {mutant.why}: {caught}", file=sys.stderr, flush=True)


def table(mutants: list[Mutant], suite: pathlib.Path) -> Iterator[str]:
    """The lines of the table in Markdown, and the sums under it."""
    outcomes = [(mutant, _read(repr(mutant), suite)) for mutant in mutants]
    known = [(mutant, outcome) for mutant, outcome in outcomes if outcome is not None]
    yield "| file | fault | noticed by | CPU s |"
    yield "|---|---|---|---|"
    for mutant, outcome in known:
        test = outcome["test"].removeprefix("tests/").replace("|", "\\|")
        yield f"| {mutant.file} | {mutant.why} | {f'`{test}`' if test else '**nothing**'} | {outcome['cpu']:.1f} |"
    noticed, cpu = sum(bool(outcome["test"]) for _, outcome in known), sum(outcome["cpu"] for _, outcome in known)
    yield f"\n{noticed} of {len(known)} noticed, in {cpu:.0f} s of CPU; {len(mutants) - len(known)} not examined."


def main() -> None:
    """Examines the mutants and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN", help="a regular expression of the file or the reason")
    parser.add_argument("--suite", default=ROOT, type=pathlib.Path, help="the checkout whose tests are run")
    parser.add_argument("--jobs", default=1, type=int, help="mutants at a time")
    parser.add_argument("--seconds", default=300.0, type=float, help="of CPU, after which a fault is not noticed")
    parser.add_argument("--list", action="store_true", help="print the table of the known outcomes and stop")
    options = parser.parse_args()
    suite, mutants = options.suite.resolve(), load(options.only)
    if not options.list:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        import_what_tests_import()

        jobs = []
        for job in range(options.jobs):
            if not (child := os.fork()):
                work(mutants[job :: options.jobs], suite, options.seconds)
                sys.exit()
            jobs.append(child)
        if any([os.waitpid(job, 0)[1] for job in jobs]):
            raise SystemExit("mutations: a job failed; the same command goes on")
    print("\n".join(table(mutants, suite)))


if __name__ == "__main__":
    main()
