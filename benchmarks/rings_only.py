"""Run a command whose frequent calls come through the rings of the perf engine, and throw away what they give.

    python -m benchmarks.rings_only -- COMMAND

What this costs, no engine that reads rings can save: the kernel's two records a call, and emptying the rings. The
rings are those that qtrace uses here, of BPF or of perf. Those of BPF have to be told of new processes, so a thread
waits for them with ptrace, and for nothing else.
"""

from __future__ import annotations

import os
import select
import sys
import threading

from qtrace.capture import ptrace_calls
from qtrace.capture.bpf_rings import BpfRings
from qtrace.capture.machine import architecture
from qtrace.capture.perf_engine import open_rings
from qtrace.capture.perf_events import Rings, hurry

_FORKS = {ptrace_calls.EVENT_FORK, ptrace_calls.EVENT_VFORK}
_OPTIONS = ptrace_calls.O_TRACEFORK | ptrace_calls.O_TRACEVFORK | ptrace_calls.O_EXITKILL


def _emptied(rings: Rings | BpfRings, is_over: threading.Event) -> None:
    poll = select.poll()
    for fd in rings.to_poll():
        poll.register(fd, select.POLLIN)
    while not is_over.is_set():
        for fd, events in poll.poll(rings.wait_ms):
            if events & (select.POLLHUP | select.POLLERR):
                poll.unregister(fd)
        for ring in rings:
            ring.take()


def _followed(root: int, rings: Rings | BpfRings) -> int:
    """Let a tree run to its end, and return the raw status of its first process."""
    if isinstance(rings, Rings):
        return os.waitpid(root, 0)[1]
    while True:
        tid, status = os.waitpid(-1, ptrace_calls.WALL)
        if not os.WIFSTOPPED(status):
            rings.follow(tid, False)
            if tid == root:
                return status
            continue
        event, number = status >> 16, os.WSTOPSIG(status)
        if event in _FORKS:
            rings.follow(ptrace_calls.event_message(tid), True)
        ptrace_calls.resume(tid, ptrace_calls.CONT, 0 if event else number)


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
    if isinstance(rings, BpfRings):
        ptrace_calls.request(ptrace_calls.SEIZE, pid, 0, _OPTIONS)
        rings.follow(pid, True)
    is_over = threading.Event()
    emptying = threading.Thread(target=_emptied, args=(rings, is_over))
    emptying.start()
    os.write(go, b"g")
    status = _followed(pid, rings)
    is_over.set()
    emptying.join()
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
