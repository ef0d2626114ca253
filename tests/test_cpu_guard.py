"""The guard of the tests' own cost."""

import subprocess
import sys

import cpu_guard
from cpu_guard import CpuGuard, cpu_seconds

pytest_plugins = ["pytester"]

CASES = """
    import time
    import pytest

    def burn(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    @pytest.fixture(scope="module")
    def shared():
        burn(0.3)

    def test_cheap(shared):
        pass

    def test_expensive():
        burn(0.3)

    @pytest.mark.slow
    def test_slow():
        burn(0.3)
"""


def test_a_case_fails_that_is_expensive_and_not_marked_slow(pytester, monkeypatch):
    monkeypatch.setattr(cpu_guard, "slowness", lambda: 1.0)
    pytester.makepyfile(CASES)
    pytester.makeini("[pytest]\nmarkers = slow")
    outcome = pytester.runpytest_inprocess("-p", "no:xdist", plugins=[CpuGuard(0.2)])
    outcome.assert_outcomes(passed=3, errors=1)
    outcome.stdout.fnmatch_lines(["*ERROR at teardown of test_expensive*", "*takes at most 0.2 s of CPU*"])
    outcome.stdout.fnmatch_lines(["*  0.0  *test_cheap (and 0.3 s for what it shares)", "*in all, for 3 cases"])


def test_the_time_of_other_processes_counts():
    before = cpu_seconds()
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        assert cpu_seconds() - before > 0.25, "of one that runs"
        running.communicate(b"\n")
    assert cpu_seconds() - before > 0.25, "of one that has ended"
