"""A hung program that somebody kills was hung, not finished; one that ends by itself was not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from qtrace.errors import RecordingError
from qtrace.tracefile.reader import TraceReader
from tests.support.engines import both_engines, command
from tests.support.processes import qtrace, running, stat_fields, tree, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _stands(recording: Path) -> bool:
    """Whether the recording has the stacks of three long waits: both main threads' and the feeder's."""
    try:
        with TraceReader(recording) as reader:
            return len(reader.rows("stacks")) >= 3
    except RecordingError:
        return False  # not begun yet


@both_engines()
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_hung_program_that_was_killed_is_a_deadlock(number: signal.Signals, engine: str, tmp_path: Path) -> None:
    """The verdict is that of the moment before the signal, and the exit is the program's own."""
    recording = tmp_path / "a.qtrace"
    script = str(EXAMPLES / "join_before_get.py")
    words = ["record", "-q", "--on-hang", "wait", "-o", str(recording), script]
    with running(command(engine, *words)) as process:
        wait_until(lambda: _stands(recording), what="the hang")
        members = tree(process.pid)[1:]
        for member in reversed(members):
            if stat_fields(member) is not None:
                os.kill(member, number)
        assert process.wait(30) != 124
    outcome = qtrace("explain", "--json", str(recording))
    verdict = json.loads(outcome.stdout)
    assert (outcome.status, verdict["verdict"], verdict["pattern"]) == (1, "deadlock", "join-before-drain")
    assert len(verdict["chain"]) == 3


@both_engines()
def test_a_program_that_kills_its_own_child_has_finished(engine: str, tmp_path: Path) -> None:
    """A SIGKILL of the program's own is no end from outside."""
    code = (
        "import multiprocessing as mp, time\n"
        "if __name__ == '__main__':\n"
        "    p = mp.Process(target=time.sleep, args=(60,)); p.start(); time.sleep(0.2); p.kill(); p.join()\n"
    )
    script, recording = tmp_path / "kills.py", tmp_path / "a.qtrace"
    script.write_text(code)
    assert qtrace("record", "-q", "-o", str(recording), str(script), engine=engine).status == 0
    outcome = qtrace("explain", "--json", str(recording))
    assert (outcome.status, json.loads(outcome.stdout)["verdict"]) == (0, "finished")
