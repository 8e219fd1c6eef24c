"""Record a program many times over: `python -m tests.capture.repeat_record TIMES COMMAND...`.

Loading qtrace takes longer than most programs of the tests run, so it is loaded once; each
recording is a fork of this process that runs the whole command line. Prints one JSON object a
recording: output, exit status as a shell's parent sees it, and how many processes were left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import qtrace.analyse.explain
import qtrace.capture.recorder
import qtrace.capture.target
import qtrace.cli.record
from qtrace.cli.app import main
from tests.support.processes import in_session

AT_ONCE = 2
assert qtrace.analyse.explain
assert qtrace.capture.recorder
assert qtrace.capture.target
assert qtrace.cli.record


def _begin(argv: list[str], folder: Path, number: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    target = os.open(folder / f"out-{number}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.dup2(target, 1)
    sys.argv = ["qtrace", "record", "-q", "-f", "-o", str(folder / f"{number}.qtrace"), "--", *argv]
    try:
        main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)


def _repeat(times: int, argv: list[str], folder: Path) -> None:
    running: dict[int, int] = {}
    started = 0
    while started < times or running:
        while started < times and len(running) < AT_ONCE:
            running[_begin(argv, folder, started)] = started
            started += 1
        pid, status = os.wait()
        number = running.pop(pid)
        left = in_session(pid)
        for member in left:
            os.kill(member, signal.SIGKILL)
        output = (folder / f"out-{number}").read_text()
        print(json.dumps({"output": output, "status": os.waitstatus_to_exitcode(status), "leftovers": len(left)}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="qtrace-repeat-") as name:
        _repeat(int(sys.argv[1]), sys.argv[2:], Path(name))
