"""The tracer's memory while it records ten million calls, and what a call costs early and late.

    python -m benchmarks.bench_memory [--calls 10000000]

A program makes cheap calls and says after each tenth of them that it has; the tracer's resident memory is
read then. Engine ptrace: each call is two stops.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import os, sys
read, file, count = os.read, os.open("/dev/zero", os.O_RDONLY), int(sys.argv[1])
for _ in range(10):
    for _ in range(count // 10):
        read(file, 1)
    print(flush=True)
    sys.stdin.readline()
"""


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the tracer has ended")


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=float, default=1e7)
    count = int(parser.parse_args().calls)
    with tempfile.TemporaryDirectory() as name:
        script, recording = Path(name, "program.py"), Path(name, "a.qtrace")
        script.write_text(PROGRAM)
        record = [sys.executable, "-m", "qtrace", "record", "-q", "--engine", "ptrace", "-o", str(recording)]
        command = [*record, "--", sys.executable, str(script), str(count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            print("| calls | memory of the tracer | µs a call |\n|---|---|---|")
            before = time.monotonic()
            for tenth in range(1, 11):
                process.stdout.readline()
                now = time.monotonic()
                memory = resident_bytes(process.pid) / 1e6
                print(f"| {count // 10 * tenth:,} | {memory:.0f} MB | {(now - before) / (count // 10) * 1e6:.1f} |")
                sys.stdout.flush()
                before = now
                process.stdin.write(b"\n")
                process.stdin.flush()
        print(f"\n{recording.stat().st_size / count:.1f} bytes a call on disk.")


if __name__ == "__main__":
    main()
