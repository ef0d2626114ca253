"""A pytest plugin: no case takes long, and a run ends with what it took.

A case that is not marked slow fails if it takes more than 20 s of CPU, in this process and in all under it. Not of
wall time: that depends on what else the machine does.

A case answers for its own set-up and tear-down. What a module or the whole run shares is nobody's, or the case that
happens to come first would pay for all: the summary shows it beside that case.
"""

import collections
import os
import pathlib
import time
from collections.abc import Iterator

import pytest

# On a processor that takes REFERENCE_SECONDS for the loop of `slowness`; a slower one has as much more.
LIMIT_SECONDS, REFERENCE_SECONDS = 20.0, 0.045
SHOWN = 10
OWN, SHARED = "cpu_seconds", "shared_cpu_seconds"


def slowness() -> float:
    """How many times as long as where the limit was chosen something takes here and now; at least 1."""

    def reference() -> float:
        start, total = time.process_time(), 0
        for number in range(1_000_000):
            total += number * number % 7
        return time.process_time() - start

    return max(1.0, min(reference() for _ in range(3)) / REFERENCE_SECONDS)


def cpu_seconds() -> float:
    """User and system seconds of this process and of all under it, those that have ended and those that run."""
    total, running = sum(os.times()[:4]), _children("self")
    while running:
        process = running.pop()
        try:
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            running += _children(process)
        except OSError:  # It has just ended.
            continue
        # Its own, and that of those that it has waited for; `man proc`.
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def _children(process: str) -> list[str]:
    """The processes that one has started; none where the system does not say."""
    return " ".join(path.read_text() for path in pathlib.Path(f"/proc/{process}/task").glob("*/children")).split()


class CpuGuard:
    """The plugin; each run has its own."""

    def __init__(self, limit: float = LIMIT_SECONDS):
        self.limit, self.start, self.cases, self.workers = limit, 0.0, {}, 0.0

    def pytest_runtest_logstart(self) -> None:
        """Before the set-up of whatever is shared."""
        self.start = cpu_seconds()

    @pytest.fixture(autouse=True)
    def guarded(self, request) -> Iterator[None]:
        """Set up after all that is shared, and before all that is not."""
        before = cpu_seconds()
        request.node.user_properties.append((SHARED, before - self.start))
        yield
        used = cpu_seconds() - before
        request.node.user_properties.append((OWN, used))
        slow = request.node.get_closest_marker("slow")
        if used > self.limit and not slow and used > (limit := self.limit * slowness()):
            pytest.fail(
                f"A case that is not marked slow takes at most {limit:.3g} s of CPU, and better less than 5. "
                f"This one took {used:.1f} s.",
                pytrace=False,
            )

    def pytest_runtest_logreport(self, report) -> None:
        """Records the cost of a case, which may have run in a worker."""
        if report.when == "teardown":
            self.cases[report.nodeid] = dict(report.user_properties)

    def pytest_sessionfinish(self, session) -> None:
        """A worker reports its total."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[OWN] = cpu_seconds()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error) -> None:
        """Adds the total of a worker."""
        self.workers += getattr(node, "workeroutput", {}).get(OWN, 0.0)

    def pytest_terminal_summary(self, terminalreporter) -> None:
        """Prints the slowest cases and files, and the sum."""
        costs = {name: (case.get(OWN, 0.0), case.get(SHARED, 0.0)) for name, case in self.cases.items()}
        slowest = sorted(costs, key=lambda name: sum(costs[name]), reverse=True)[:SHOWN]
        terminalreporter.section("CPU seconds")
        for name in slowest:
            own, shared = costs[name]
            beside = f" (and {shared:.1f} s for what it shares)" if shared >= 0.1 else ""
            terminalreporter.write_line(f"{own:6.1f}  {name}{beside}")
        files = collections.Counter()
        for name, cost in costs.items():
            files[name.partition("::")[0]] += sum(cost)
        for name, cost in files.most_common(SHOWN):
            terminalreporter.write_line(f"{cost:6.1f}  {name}")
        # The workers, which have ended, reported theirs.
        total = sum(os.times()[:2]) + self.workers if self.workers else cpu_seconds()
        terminalreporter.write_line(f"{total:6.1f}  in all, for {len(costs)} cases")
