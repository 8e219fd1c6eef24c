"""Take a running tree: every thread of every process, until no new one appears.

Seizing stops nobody; the interrupt that follows stops a thread for some microseconds and breaks into
the call that it is in. The kernel makes the call again by itself, as after a stop signal. The few
that it does not (epoll_wait, sigwaitinfo, semop: see signal(7)) the tracer has made again where they
wait without limit, on x86_64; others return EINTR, as they do under strace and after Ctrl-Z and fg.
"""

from __future__ import annotations

import errno
import os
import threading
from functools import partial

from qtrace.capture import procfs, ptrace_calls
from qtrace.capture.launch import OPTIONS, refused
from qtrace.capture.loop import Loop
from qtrace.capture.members import Tree, tree_of
from qtrace.capture.memory import MemoryReader
from qtrace.capture.tracees import Tracees
from qtrace.errors import TargetError
from qtrace.model.syscalls import Architecture

# Not EXITKILL: what was running before has to go on if the tracer dies.
_OPTIONS = OPTIONS & ~(ptrace_calls.O_EXITKILL | ptrace_calls.O_TRACESECCOMP)
_ROUNDS = 20
"""A tree that still makes threads after so many rounds is taken with what has been seized: those
made by seized threads are followed anyway."""


def attach(pid: int, loop: Loop, tracees: Tracees, machine: Architecture, now_ns: int) -> Tree:
    """Seize a process with all its threads and descendants.

    Raises:
        TargetError: There is no such process, or it is qtrace itself or one that it runs under.
        PermissionRefusedError: The system forbids it; nobody is left traced.
    """
    tree = tree_of(pid, "down")
    if os.getpid() in tree.members or pid == os.getpid():
        raise TargetError(f"process {pid} is qtrace itself, or waits for it", "Name a process of another program.")
    ptrace_calls.registers()  # loaded before anybody stops
    seized: set[int] = set()
    for _ in range(_ROUNDS):
        fresh = _seize_new(tree, seized, loop, tracees, machine, now_ns)
        if not fresh:
            break
        tree = tree_of(pid, "down")
    if not seized:
        raise TargetError(f"process {pid} has ended", "List the running ones with: ps -ef | grep python")
    for tid in seized:
        ptrace_calls.request(ptrace_calls.INTERRUPT, tid)
    return tree


def _seize_new(tree: Tree, seized: set[int], loop: Loop, tracees: Tracees, machine: Architecture, now_ns: int) -> bool:
    fresh = False
    for member in tree.members.values():
        for tid in procfs.thread_ids(member.pid):
            # A main thread that has ended is a zombie while others of its process live on.
            if tid in seized or (tid == member.pid and member.stat.state in "ZX"):
                continue
            line = _line(member.pid, tid)
            answer = ptrace_calls.request(ptrace_calls.SEIZE, tid, 0, _OPTIONS)
            if answer == ptrace_calls.GONE or (answer == -errno.EPERM and _traced_by_us(member.pid, tid)):
                continue  # it has ended, or came out of a thread that is seized already
            if answer < 0:
                loop.letting_go = True
                raise refused(-answer, tid)
            seized.add(tid)
            loop.seized.add(tid)
            fresh = True
            if member.pid not in tracees.processes:
                tracees.add_root(member.pid, member.stat.ppid, now_ns)
            tracees.born(tid, member.pid, None, None, now_ns)
            made = procfs.parse_numbers(line) if line else None
            if made is not None:
                kind = tracees.processes[member.pid].kind
                call = procfs.native_call(kind, *made, partial(_memory, tid))
                loop.in_progress(tid, call, now_ns, kind is not procfs.ImageKind.NATIVE)
    return fresh


_memory = MemoryReader()


def _line(pid: int, tid: int) -> str | None:
    try:
        return procfs.syscall_line(pid, tid)
    except PermissionError:
        return None


def _traced_by_us(pid: int, tid: int) -> bool:
    return procfs.tracer_of(pid, tid) == threading.get_native_id()
