"""Runs tests of CPython's own suite: `cpython_results.py FILE NAME...` stores how each ended in FILE, as JSON.

A NAME is that of a module, a class or a method: `test.test_signal.PosixTests`.
"""

import json
import os
import sys
import tempfile
import unittest


class Outcomes(unittest.TextTestResult):
    """Keeps one word for each test."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.words = {}

    def addSuccess(self, test):
        super().addSuccess(test)
        self.words.setdefault(test.id(), "ok")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.words[test.id()] = "failed"

    def addError(self, test, error):
        super().addError(test, error)
        self.words[test.id()] = "error"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.words[test.id()] = "skipped"

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.words[test.id()] = "failed"


def main():
    target, names = os.path.abspath(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the tests make files where they are
        suite = unittest.defaultTestLoader.loadTestsFromNames(names)
        outcomes = unittest.TextTestRunner(resultclass=Outcomes, verbosity=2).run(suite)
        os.chdir("/")
    with open(target, "w") as file:
        json.dump(outcomes.words, file)


if __name__ == "__main__":
    main()
