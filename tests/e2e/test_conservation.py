"""Nothing is lost on the way: bytes and messages of a busy queue, counted from the recording."""

from __future__ import annotations

import pytest

import qtrace as qtrace_api
from qtrace.analyse.trace import Trace
from tests.support.engines import DEFAULT, needs_perf
from tests.support.processes import qtrace

PROGRAM = """
import multiprocessing as mp, sys

def produce(queue, count):
    for number in range(count):
        queue.put(b"x" * (number % 977))

if __name__ == "__main__":
    count = int(sys.argv[1])
    queue = mp.Queue()
    child = mp.Process(target=produce, args=(queue, count))
    child.start()
    for number in range(count - 3):
        assert len(queue.get()) == number % 977
    import time
    time.sleep(0.5)
    child.join()
"""
MESSAGES = 20_000
LEFT = 3


@pytest.fixture(scope="module", params=[DEFAULT] if DEFAULT else ["ptrace", pytest.param("perf", marks=needs_perf)])
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A recording by each engine of 20,000 messages, of which three are never taken."""
    folder = tmp_path_factory.mktemp("conservation")
    script = folder / "many.py"
    script.write_text(PROGRAM)
    recording = folder / "many.qtrace"
    outcome = qtrace("record", "-o", str(recording), str(script), str(MESSAGES), timeout_s=240, engine=request.param)
    assert outcome.status == 0, outcome.stderr
    return qtrace_api.load(recording)


def test_bytes_written_are_bytes_read_and_what_is_left(trace: Trace) -> None:
    """For every pipe: written = read + level at the end."""
    calls = trace.syscalls
    done = calls[calls["ret"].notna() & calls["object_id"].notna()]
    pipes = [object_id for object_id in done["object_id"].unique() if object_id.startswith("pipe:")]
    assert pipes
    for object_id in pipes:
        on_it = done[done["object_id"] == object_id]
        written = int(on_it.loc[on_it["name"] == "write", "ret"].sum())
        read = int(on_it.loc[on_it["name"] == "read", "ret"].sum())
        levels = trace.fill.loc[trace.fill["object_id"] == object_id, "bytes"]
        left = int(levels.iloc[-1]) if len(levels) else 0
        assert written == read + left, object_id


def test_messages_sent_are_messages_received_and_those_in_the_pipe(trace: Trace) -> None:
    """20,000 were sent, all but three were received, and each size is right."""
    messages = trace.messages
    queue = messages["object_id"].value_counts().idxmax()
    ours = messages[messages["object_id"] == queue].sort_values("seq")
    assert len(ours) == MESSAGES
    assert int(ours["complete"].sum()) == MESSAGES - LEFT
    assert ours["receiver_tid"].isna().sum() == LEFT
    # A pickled bytes object has a frame of some bytes around it, the same for each length's form.
    sizes = ours["size"].to_numpy()
    bodies = [number % 977 for number in range(MESSAGES)]
    overhead = {int(size) - body for size, body in zip(sizes, bodies, strict=True)}
    assert all(4 <= extra <= 24 for extra in overhead), overhead
