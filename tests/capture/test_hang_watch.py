"""When the hang watch looks: often enough to find a hang soon, seldom enough not to be felt."""

from __future__ import annotations

import subprocess
from pathlib import Path

from qtrace.tracefile.reader import TraceReader
from tests.capture.test_ending import end_of, words

SOON_NS = 5_000_000_000
"""By its backed-off looks alone the watch would come eight seconds after the program has come to rest."""


def test_a_hang_after_long_computing_is_found_soon(tmp_path: Path) -> None:
    """While a program computes it is looked at ever less often; that all stand still is seen all the same."""
    recording = tmp_path / "late.qtrace"
    command = words(recording, "computes_then_hangs.py", options=("--hang-after", "1", "--timeout", "60"))
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    reason, verdict = end_of(recording)
    assert (reason, verdict["verdict"]) == ("hang", "deadlock")
    with TraceReader(recording) as reader:
        calls = reader.calls()
        ended_ns = next(row[0] for row in reader.rows("lifecycle") if row[3] == "end-begins")
    begun = calls["start_ns"][calls["start_ns"] < ended_ns]
    assert 1_000_000_000 <= ended_ns - int(begun.max()) < SOON_NS
