"""Who is traced: processes, images and threads, as the recording's tables have them.

A child's first stop can arrive before its parent's fork event, and a thread that is not the leader
takes the leader's id when it execs: both are set right here, so that the loop only has to tell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from qtrace.capture import procfs
from qtrace.capture.script import script_name

_FOR_EVER = 1 << 62
_RECORDED = frozenset({procfs.ImageKind.NATIVE, procfs.ImageKind.I386})
RowSink = Callable[[str, Sequence[object]], None]
"""Takes a row of a table of the recording."""


class TracedProcess:
    """An image of a process: from fork or exec to exec or exit."""

    __slots__ = (
        "argv", "exe", "image", "kind", "pid", "ppid", "shares_files_with", "start_ns", "stored", "threads", "uid",
    )  # fmt: skip

    pid: int
    ppid: int
    start_ns: int
    image: int
    argv: tuple[str, ...]
    exe: str
    uid: int
    threads: set[int]
    shares_files_with: int | None
    kind: procfs.ImageKind
    stored: tuple[str, str | None, str] | None
    """Name, command line and executable as the recording has them; None where they are to be made of the others."""

    def __init__(self, pid: int, ppid: int, start_ns: int, image: int = 0) -> None:
        self.pid = pid
        self.ppid = ppid
        self.start_ns = start_ns
        self.image = image
        self.argv = ()
        self.exe = ""
        self.uid = 0
        self.threads = set()
        self.shares_files_with = None
        self.kind = procfs.ImageKind.NATIVE
        self.stored = None


class TracedThread:
    """A thread."""

    __slots__ = ("announced", "creator", "pid", "start_ns", "tid", "tls")

    tid: int
    pid: int
    start_ns: int
    creator: int | None
    tls: int | None
    announced: bool
    """Whether it is known otherwise than by a stop of its own: its maker's event is still to come."""

    def __init__(
        self,
        tid: int,
        pid: int,
        start_ns: int,
        creator: int | None = None,
        tls: int | None = None,
        announced: bool = True,
    ) -> None:
        self.tid = tid
        self.pid = pid
        self.start_ns = start_ns
        self.creator = creator
        self.tls = tls
        self.announced = announced


class Tracees:
    """The registry. The loop's thread writes; others may read `pids` and `threads` by copying them."""

    def __init__(self, sink: RowSink, redact: bool = False) -> None:
        self._sink = sink
        self._redact = redact
        self.processes: dict[int, TracedProcess] = {}
        self.threads: dict[int, TracedThread] = {}
        self.pid_of: dict[int, int] = {}
        self._ended_unannounced: dict[int, tuple[TracedThread, int, int]] = {}
        """Threads that ended before their maker's event came: with their process's parent, and when."""
        self.foreign: dict[int, list[list[int]]] = {}
        """From when to when (nanoseconds) a process ran programs whose calls have other numbers, by pid."""
        self.left_out: list[str] = []
        """What the recording does not have, a sentence each."""
        self.ever = 0
        """How many processes there have been."""
        self.on_process: Callable[[int, bool], None] | None = None
        """Told of each process before it runs (our own fork: before it becomes the program), and when it has ended."""

    def add_root(self, pid: int, ppid: int, now_ns: int, *, before_exec: bool = False) -> None:
        """Add a process of which nothing is known yet.

        Args:
            pid: The process.
            ppid: Its parent.
            now_ns: When.
            before_exec: It is the tracer's own fork, and becomes the program by its first exec.
        """
        self._add_process(pid, ppid, now_ns, None, -1 if before_exec else 0)
        self._add_thread(pid, pid, None, None, now_ns)

    def creator_of(self, tid: int) -> int | None:
        """Return who made a thread, or None where that is not known."""
        thread = self.threads.get(tid)
        return thread.creator if thread is not None else None

    def born(
        self, tid: int, pid: int, creator: int | None, tls: int | None, now_ns: int, *, announced: bool = True
    ) -> bool:
        """Add a thread, and its process if that is new; a second report completes the first.

        Args:
            tid: The thread.
            pid: Its process.
            creator: Who made it; None if that is not known, or not yet.
            tls: Its thread pointer, if that is known.
            now_ns: When.
            announced: False where it is seen by its own first stop: its maker's event is still to
                come, and may come when the thread has already ended.

        Returns:
            False if it has ended already.
        """
        early = self._ended_unannounced.pop(tid, None) if creator is not None else None
        if early is not None and tid not in self.threads:
            thread, _, ended_ns = early
            thread.creator, thread.tls = creator, tls
            self._store_thread(thread, ended_ns)
            return False
        known = self.threads.get(tid)
        if known is not None and known.pid == pid:
            if creator is not None and known.creator is None:
                known.creator, known.tls, known.announced = creator, tls, True
                self._store_thread(known)
            return True
        if known is not None:
            self.gone(tid, None, now_ns)  # its id has been given anew
        if pid not in self.processes:
            parent = self.pid_of.get(creator) if creator is not None else None
            self._add_process(pid, parent if parent is not None else _parent_of(pid), now_ns, parent)
        self._add_thread(tid, pid, creator, tls, now_ns)
        self.threads[tid].announced = announced
        return True

    def _add_process(self, pid: int, ppid: int, now_ns: int, copied_from: int | None, image: int = 0) -> None:
        parent = self.processes.get(copied_from) if copied_from is not None else None
        process = TracedProcess(pid, ppid, now_ns, image)
        if parent is not None:
            process.argv, process.exe, process.uid = parent.argv, parent.exe, parent.uid
            process.kind, process.stored = parent.kind, parent.stored
        else:
            self._look_up(process)
        self._note_kind(process, 0)
        self.processes[pid] = process
        self.ever += 1
        self._store_process(process)
        if self.on_process is not None and image >= 0:
            self.on_process(pid, True)

    def _look_up(self, process: TracedProcess) -> None:
        process.argv = procfs.argv(process.pid)
        process.exe = procfs.link(f"/proc/{process.pid}/exe")
        fields = procfs.status_fields(process.pid)
        process.uid = int(fields["Uid"].split()[0]) if "Uid" in fields else 0
        process.stored = None
        process.kind = procfs.image_kind(process.pid)
        if process.kind not in _RECORDED:
            name = "" if self._redact else f" {process.exe.rpartition('/')[2]}"
            self.leave_out(process.kind.value, f"calls of the {process.kind.value} program{name} are not recorded")

    def _note_kind(self, process: TracedProcess, now_ns: int) -> None:
        spans = self.foreign.get(process.pid)
        if spans:
            spans[-1][1] = min(spans[-1][1], now_ns or process.start_ns)
        if process.kind is not procfs.ImageKind.NATIVE:
            self.foreign.setdefault(process.pid, []).append([now_ns, _FOR_EVER])

    def leave_out(self, place: str, reason: str) -> None:
        """Say in the recording, once, what it will not have from now on."""
        if reason not in self.left_out:
            self.left_out.append(reason)
            self._sink("losses", (time.monotonic_ns(), None, None, place, reason))

    def _add_thread(self, tid: int, pid: int, creator: int | None, tls: int | None, now_ns: int) -> None:
        thread = TracedThread(tid, pid, now_ns, creator, tls)
        self.threads[tid] = thread
        self.pid_of[tid] = pid
        self.processes[pid].threads.add(tid)
        self._store_thread(thread)

    def execed(self, pid: int, old_tid: int, now_ns: int, name: str = "") -> list[int]:
        """Begin a new image; return the threads that the exec has ended (old_tid became pid).

        Args:
            pid: The process.
            old_tid: The thread that called exec.
            now_ns: When.
            name: What the program is called, for where it has ended before it could be looked at.
        """
        process = self.processes.get(pid)
        if process is None:
            self._add_process(pid, _parent_of(pid), now_ns, None)
            self._add_thread(pid, pid, None, None, now_ns)
            return []
        ended = [tid for tid in process.threads if tid != pid]
        for tid in ended:
            thread = self.threads.pop(tid, None)
            self.pid_of.pop(tid, None)
            if thread is not None:
                self._store_thread(thread, now_ns)
        if pid not in self.threads:
            self._add_thread(pid, pid, None, None, now_ns)
        process.threads = {pid}
        self._store_process(process, now_ns)
        if process.image >= 0:
            process.start_ns = now_ns
        process.image += 1
        if self.on_process is not None and process.image == 0:
            self.on_process(pid, True)
        self._look_up(process)
        self._note_kind(process, now_ns)
        process.argv = process.argv or ((name,) if name else ())
        process.stored = None
        self._store_process(process)
        return ended

    def gone(self, tid: int, status: int | None, now_ns: int) -> bool:
        """Take note that a thread has ended; return whether its process has with it.

        Args:
            tid: The thread.
            status: Raw wait status; None if it is not known.
            now_ns: When.
        """
        thread = self.threads.pop(tid, None)
        if thread is None:
            return False
        self.pid_of.pop(tid, None)
        self._store_thread(thread, now_ns)
        process = self.processes.get(thread.pid)
        if process is None:
            return False
        if not thread.announced:
            self._ended_unannounced[tid] = thread, process.ppid, now_ns
        process.threads.discard(tid)
        if process.threads:
            return False
        del self.processes[thread.pid]
        if self.on_process is not None:
            self.on_process(thread.pid, False)
        self._store_process(process, now_ns, status)
        self._forget_unannounced(process.pid)
        return True

    def _forget_unannounced(self, maker: int) -> None:
        # The events of a process that was killed never come, and its children's ids are given anew.
        stale = [
            tid
            for tid, (thread, ppid, _) in self._ended_unannounced.items()
            if maker == (ppid if thread.tid == thread.pid else thread.pid)
        ]
        for tid in stale:
            del self._ended_unannounced[tid]

    def _store_process(self, process: TracedProcess, end_ns: int | None = None, status: int | None = None) -> None:
        if process.image < 0:
            return  # not the program yet
        code = signal_number = None
        if status is not None:
            signal_number = status & 0x7F or None
            code = None if signal_number else status >> 8
        if process.stored is None:
            process.stored = self._as_stored(process)
        self._sink(
            "processes",
            (
                process.pid, process.image, process.ppid, *process.stored, process.uid, process.start_ns,
                end_ns, code, signal_number,
            ),
        )  # fmt: skip

    def _as_stored(self, process: TracedProcess) -> tuple[str, str | None, str]:
        if self._redact:
            return "", None, process.exe.rpartition("/")[2]
        return script_name(process.argv), json.dumps(process.argv), process.exe

    def _store_thread(self, thread: TracedThread, end_ns: int | None = None) -> None:
        self._sink("threads", (thread.tid, thread.pid, None, thread.creator, thread.tls, thread.start_ns, end_ns))


def _parent_of(pid: int) -> int:
    stat = procfs.stat(pid)
    return stat.ppid if stat is not None else 0


def tgid_of(tid: int) -> int:
    """Return the process of a thread; the thread itself if it is gone."""
    return int(procfs.status_fields(tid).get("Tgid", tid))
