"""Run CPython's own tests of multiprocessing queues with `qtrace.queue` installed.

    python tests/queue/run_cpython_tests.py [--methods=fork,spawn,forkserver] [--all] [--standard] [-v]

Works with any CPython 3.8 or later that brings its `test` package. `--all` adds
the tests of pools, connections and barriers. `--standard` runs the same tests without ours,
to tell a failure of ours from one of the machine. Exit status 0 if all pass.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import unittest

METHODS = ("fork", "spawn", "forkserver")
METHOD_FLAG = "--method="
# Test cases by the names that CPython makes from its templates.
QUEUE_CASES = (
    "WithProcessesTestQueue",
    "WithThreadsTestQueue",
    "WithManagerTestQueue",
    "TestSimpleQueue",
    "TestStdinBadfiledescriptor",
    "TestStartMethod",
    "WithManagerTestMyManager",
    "TestInitializers",
    "WithProcessesTestProcess",
    "TestIgnoreEINTR",
    "TestNoForkBomb",
    "TestCloseFds",
)
QUEUE_TESTS = {"TestSyncManagerTypes": ("test_queue", "test_joinable_queue")}
# What stands on queues, or beside them in the same program.
NEIGHBOUR_CASES = (
    "WithProcessesTestPool",
    "WithProcessesTestPoolWorkerLifetime",
    "TestPoolNotLeakOnFailure",
    "WithProcessesTestConnection",
    "WithProcessesTestBarrier",
)


def method_of(arguments: list[str]) -> str | None:
    """Return the start method that this process was told to test."""
    return next((word[len(METHOD_FLAG) :] for word in arguments if word.startswith(METHOD_FLAG)), None)


def install_cases(method: str) -> None:
    """Make CPython's test cases members of this module, as its own test modules do."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
    if "--standard" not in sys.argv:
        import qtrace.queue

        qtrace.queue.install()
    from test import _test_multiprocessing

    _test_multiprocessing.install_tests_in_module_dict(globals(), method)


# At import, not under the main guard: spawned children import this file as their main
# module (with our sys.argv), and find the test cases and the installed queue there.
if method_of(sys.argv):
    install_cases(str(method_of(sys.argv)))


def suite_of(with_neighbours: bool) -> unittest.TestSuite:
    """Return the queue tests that the running CPython has."""
    suite = unittest.TestSuite()
    loader = unittest.TestLoader()
    for name in QUEUE_CASES + (NEIGHBOUR_CASES if with_neighbours else ()):
        if name in globals():
            suite.addTests(loader.loadTestsFromTestCase(globals()[name]))
    for name, tests in QUEUE_TESTS.items():
        case = globals().get(name)
        suite.addTests(case(test) for test in tests if hasattr(case, test))
    return suite


def main() -> int:
    """Run the chosen tests, each start method in a process of its own; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--method", help="test this one, in this process")
    parser.add_argument("--all", action="store_true", help="the tests of pools, connections and barriers too")
    parser.add_argument("--standard", action="store_true", help="with the standard queue, for comparison")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    if options.method is None:
        methods = options.methods.split(",")
        runs = [subprocess.run([sys.executable, __file__, METHOD_FLAG + each, *sys.argv[1:]]) for each in methods]
        return int(any(run.returncode for run in runs))
    ours = "the standard queue" if options.standard else "qtrace.queue"
    print(f"CPython {sys.version.split()[0]}, {options.method}, {ours}", file=sys.stderr, flush=True)
    result = unittest.TextTestRunner(verbosity=2 if options.verbose else 1).run(suite_of(options.all))
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
