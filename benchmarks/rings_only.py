"""Run a command whose frequent calls come through perf's rings, and throw away what they give.

    python -m benchmarks.rings_only -- COMMAND

What this costs, no engine that reads rings can save: the kernel's two records a call, and emptying the rings.
"""

from __future__ import annotations

import os
import select
import sys

from qtrace.capture.perf_engine import open_rings
from qtrace.capture.perf_events import hurry
from qtrace.capture.snapshot import architecture


def main() -> None:
    """Run the command, and exit with its status."""
    words = sys.argv[sys.argv.index("--") + 1 :]
    go_read, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(go_read, 1)
        os.execvp(words[0], words)
    rings = open_rings(pid, architecture(), None)
    hurry()
    os.write(go, b"g")
    poll = select.poll()
    for ring in rings:
        poll.register(ring.fd, select.POLLIN)
    while True:
        for fd, events in poll.poll(50):
            if events & (select.POLLHUP | select.POLLERR):
                poll.unregister(fd)
        for ring in rings:
            ring.take()
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
