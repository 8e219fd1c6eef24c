"""The qtrace command, loaded once and run many times: loading takes longer than most programs of the tests.

`LoadedQtrace` is the tests' side. Run as a module, this is the server behind it: for each line of
JSON on its standard input it forks, and the fork runs the whole command line, as the leader of a
session of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_ROOT = Path(__file__).resolve().parent.parent.parent


class LoadedQtrace:
    """Runs qtrace commands, one at a time."""

    def __enter__(self) -> LoadedQtrace:
        """Start the server."""
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.capture.loaded"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the server; the command that runs must have ended."""
        self._server.kill()
        self._server.communicate()

    def start(self, arguments: Sequence[str], output: Path) -> int:
        """Run `qtrace ARGUMENTS` with standard output and error in a file; return its process."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([list(arguments), str(output)]) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """Return the exit status of the command that was started last; negative for a signal."""
        return self._answer()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


def _run(arguments: list[str], output: str) -> None:
    from qtrace.cli.app import main

    os.setsid()
    target = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for stream, descriptor in ((0, nothing), (1, target), (2, target)):
        os.dup2(descriptor, stream)
    sys.argv = ["qtrace", *arguments]
    try:
        main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)
    os._exit(0)


def _serve() -> None:
    import qtrace.analyse.explain
    import qtrace.capture.recorder
    import qtrace.capture.target
    import qtrace.cli.record  # noqa: F401

    for line in sys.stdin:
        arguments, output = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(arguments, output)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
