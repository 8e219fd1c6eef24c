"""What a recording never holds: the data, the environment, and, redacted, the words of the program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.processes import qtrace

PROGRAM = """
import multiprocessing as mp, os

def child(queue, token):
    queue.put("SECRET-MESSAGE " * 9000 + token)

if __name__ == "__main__":
    queue = mp.Queue()
    held = "SECRET-LOCAL"
    process = mp.Process(target=child, args=(queue, "SECRET-ARGUMENT"))
    process.start()
    process.join()
"""


def recorded(tmp_path: Path, *options: str) -> bytes:
    """Record the program, which hangs, and return the file, blocks of calls unpacked."""
    import zlib

    from qtrace.tracefile.reader import TraceReader

    folder = tmp_path / "private-folder"
    folder.mkdir()
    script, target = folder / "secret_name.py", tmp_path / "a.qtrace"
    script.write_text(PROGRAM)
    os.environ["QTRACE_TEST_TOKEN"] = "SECRET-ENVIRONMENT"
    try:
        words = ("record", "-q", *options, "-o", str(target), "--python", sys.executable, str(script), "SECRET-OPTION")
        assert qtrace(*words).status == 124
    finally:
        del os.environ["QTRACE_TEST_TOKEN"]
    with TraceReader(target) as reader:
        blocks = [zlib.decompress(row[-1]) for row in reader.rows("blocks")]
    return target.read_bytes() + b"".join(blocks)


def test_data_and_environment_are_never_stored(tmp_path: Path) -> None:
    """Neither messages nor local variables' text nor the environment; the command line is."""
    content = recorded(tmp_path)
    for secret in (b"SECRET-MESSAGE SECRET", b"SECRET-ENVIRONMENT", b"SECRET-ARGUMENT'"):
        assert secret not in content, secret
    assert b"SECRET-OPTION" in content
    assert b"secret_name.py" in content


def test_redacted_there_is_no_command_line_and_no_source(tmp_path: Path) -> None:
    """--redact leaves out arguments, folders and lines of source."""
    content = recorded(tmp_path, "--redact")
    for secret in (b"SECRET-OPTION", b"process.join()", b"SECRET"):
        assert secret not in content, secret
