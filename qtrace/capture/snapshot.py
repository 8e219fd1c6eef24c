"""One moment of a running tree of processes, from /proc and py-spy: nothing stopped, nothing injected.

Two looks, some 100 ms apart, tell a program that stands from one that moves: a thread stands if it
is in the same call with the same arguments and has used no CPU time and been given no CPU in
between. Everything that takes time (Python stacks, descriptors, mappings) is read between the looks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from qtrace.capture import procfs
from qtrace.capture.machine import architecture
from qtrace.capture.members import Member, Tree, named, reporters, tree_of
from qtrace.capture.memory import MemoryReader
from qtrace.capture.objects import ObjectFinder, holders_of, index_descriptors
from qtrace.errors import TargetError
from qtrace.model.calltext import call_text
from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind
from qtrace.model.snapshot import Call, Process, Snapshot, Thread
from qtrace.model.syscalls import number_of
from qtrace.model.wants import Wanted, wants_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtrace.capture import pystacks

APART_NS = 100_000_000
"""Between the two looks: twenty of the interpreter's switching intervals of 5 ms."""


_A_TURN_NS = 2_000_000
"""One that only asks for the interpreter lock every 5 ms uses 0.5 ms between the looks, if that."""


@dataclass(frozen=True, slots=True)
class _ThreadLook:
    """A thread as one look saw it."""

    state: str
    comm: str
    line: str
    """/proc/PID/task/TID/syscall."""
    cpu_ns: int
    switches: int
    start_ns: int


@dataclass(slots=True)
class _Look:
    time_ns: int
    threads: dict[tuple[int, int], _ThreadLook] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    """Processes whose threads may not be looked at, and why."""


def take_snapshot(
    pid: int, *, scope: str = "up", python: bool = True, looks: int = 2, apart_ns: int = APART_NS
) -> Snapshot:
    """Return the moment of the tree that a process belongs to.

    Args:
        pid: Any process of the tree.
        scope: ``up`` to start at the topmost process of the program, ``down`` at pid itself,
            ``only`` for pid alone.
        python: Whether to ask py-spy for Python stacks.
        looks: 1 or 2.
        apart_ns: The least time between the two looks.

    Raises:
        TargetError: There is no such process.
    """
    return begin_snapshot(pid, scope=scope, python=python, looks=looks, apart_ns=apart_ns).take()


def begin_snapshot(
    pid: int, *, scope: str = "up", python: bool = True, looks: int = 2, apart_ns: int = APART_NS
) -> Taking:
    """Return a snapshot under way, with the first look taken; the arguments are those of `take_snapshot`.

    Raises:
        TargetError: There is no such process.
    """
    taking = Taking(lambda: tree_of(pid, scope), python, looks, apart_ns)
    taking.begin()
    return taking


def take_snapshot_of(
    root_pid: int,
    members: Callable[[], Collection[int]],
    *,
    python: bool = True,
    looks: int = 2,
    apart_ns: int = APART_NS,
    calls: Mapping[int, tuple[int, Sequence[int]]] | None = None,
    stopped: Collection[int] = (),
) -> Snapshot:
    """Return the moment of a tree whose members are known, as a tracer knows them.

    Args:
        root_pid: The process that was started.
        members: Gives the living processes.
        python: Whether to ask py-spy.
        looks: 1 or 2.
        apart_ns: The least time between the two looks.
        calls: Number and arguments by tid of calls that a signal has just interrupted: their
            threads count as still inside of them.
        stopped: The threads in a group stop, which /proc shows to be stopped by the tracer.
    """

    def tree() -> Tree:
        return reporters(root_pid, members())

    taking = Taking(tree, python, looks, apart_ns)
    taking.lines = {tid: _line([nr, *args]) for tid, (nr, args) in (calls or {}).items()}
    taking.stopped = frozenset(stopped)
    return taking.take()


def _line(call: Sequence[int]) -> str:
    """A line as /proc/TID/syscall has it."""
    number, *args = call
    return " ".join([str(number), *(f"{arg:#x}" for arg in args), "0x0", "0x0"])


class Taking:
    """A snapshot under way."""

    def __init__(self, find: Callable[[], Tree], python: bool, looks: int, apart_ns: int) -> None:
        self._find: Callable[[], Tree] = find
        self.lines: Mapping[int, str] = {}
        """Syscall lines to take for granted, by tid."""
        self.stopped: frozenset[int] = frozenset()
        """Threads known to be in a group stop."""
        self._python = python
        self._looks = looks
        self._apart_ns = apart_ns
        self._architecture = architecture()
        self._dumps: dict[int, pystacks.Dump] = {}
        self._maps: dict[int, procfs.Maps] = {}
        self._kinds: dict[int, procfs.ImageKind] = {}
        self._begun: tuple[Tree, _Look] | None = None

    def begin(self) -> None:
        """Take the first look."""
        tree = self._find()
        self._begun = tree, self._look(tree)

    def take(self) -> Snapshot:
        """Return the snapshot; takes the rest of the time between the two looks."""
        if self._begun is None:
            self.begin()
        assert self._begun is not None
        tree, first = self._begun
        stacks = threading.Thread(target=self._ask_python, args=(tree, first), name="qtrace-python")
        stacks.start()
        descriptors = index_descriptors(procfs.all_pids())
        self._read_maps(tree)
        stacks.join()
        second = None
        if self._looks > 1:
            time.sleep(max(0, first.time_ns + self._apart_ns - time.monotonic_ns()) / 1e9)
            tree = self._find()
            second = self._look(tree)
        refused = dict(first.refused) | (second.refused if second else {})
        for pid in descriptors.refused:
            if pid in tree.members:
                refused.setdefault(pid, "its descriptors may not be read")
        finder = ObjectFinder(descriptors, tree.members, self._maps, frozenset(refused))
        threads = self._threads(tree, finder, first, second)
        processes = self._processes(tree, finder, refused)
        return Snapshot(
            (second or first).time_ns,
            Tgid(tree.root),
            processes,
            threads,
            finder.found,
            looks_apart_ns=second.time_ns - first.time_ns if second else None,
        )

    # --- looking ---------------------------------------------------------------------------------

    def _look(self, tree: Tree) -> _Look:
        look = _Look(time.monotonic_ns())
        for pid in tree.members:
            try:
                self._look_at(look, pid)
            except PermissionError:
                look.refused[pid] = _why_refused(pid)
                self._look_at(look, pid, calls=False)
        return look

    def _look_at(self, look: _Look, pid: int, calls: bool = True) -> None:
        for tid in procfs.thread_ids(pid):
            stat = procfs.stat(pid, tid)
            if stat is None or stat.state in "ZX":
                continue
            line = (procfs.syscall_line(pid, tid) if calls else None) or "running"
            if tid in self.lines:
                stat.state, line = "S", self.lines[tid]
            elif calls:
                line = self._native_line(pid, tid, line)
            spent = procfs.cpu_and_switches(pid, tid) or (0, 0)
            look.threads[pid, tid] = _ThreadLook(stat.state, stat.comm, line, *spent, stat.start_ns)

    def _native_line(self, pid: int, tid: int, line: str) -> str:
        """Return a syscall line in the machine's numbers: a 32-bit program's are others."""
        if pid not in self._kinds:
            self._kinds[pid] = procfs.image_kind(pid)
        made = None if self._kinds[pid] is procfs.ImageKind.NATIVE else procfs.parse_numbers(line)
        if made is None:
            return line
        memory = MemoryReader()
        return _line(procfs.native_call(self._kinds[pid], *made, lambda address, size: memory(tid, address, size)))

    def _ask_python(self, tree: Tree, look: _Look) -> None:
        if not self._python:
            return
        tids: dict[int, list[int]] = {}
        for pid, tid in look.threads:
            member = tree.members[pid]
            if member.python and pid not in look.refused:
                tids.setdefault(pid, []).append(tid)
        from qtrace.capture import pystacks  # only where it is wanted: it brings subprocess and a pool of threads

        self._dumps = pystacks.dump_all(tids)

    def _read_maps(self, tree: Tree) -> None:
        for pid in procfs.all_pids():
            try:
                self._maps[pid] = procfs.maps_of(pid)
            except OSError:
                continue

    # --- threads ---------------------------------------------------------------------------------

    def _threads(self, tree: Tree, finder: ObjectFinder, first: _Look, second: _Look | None) -> Mapping[Tid, Thread]:
        found = {}
        latest = second or first
        for (pid, tid), look in latest.threads.items():
            earlier = first.threads.get((pid, tid))
            moved = None if second is None else earlier is None or _moved(earlier, look)
            thread = self._thread(tree, finder, pid, tid, _telling(earlier, look), moved, latest.refused)
            if second is not None and earlier is not None:
                thread = replace(thread, spent_ns=look.cpu_ns - earlier.cpu_ns)
            found[Tid(tid)] = thread
        return found

    def _thread(
        self,
        tree: Tree,
        finder: ObjectFinder,
        pid: int,
        tid: int,
        look: _ThreadLook,
        moved: bool | None,
        refused: Mapping[int, str],
    ) -> Thread:
        context = _LiveContext(Tgid(pid), finder)
        made = procfs.parse_syscall(look.line, self._architecture)
        wanted, call = Wanted(), None
        if made is not None:
            name, args = made
            wanted = wants_of(name, args, context)
            call = Call(name, args, call_text(name, args, context.memory))
            for want in wanted.wants:
                if want.fd is not None:
                    finder.describe(want.object_id, pid, int(want.fd))
                    if name == "connect":
                        finder.connecting(want.object_id, context.memory(args[1], args[2]))
        dump = self._dumps.get(pid)
        python = dump.threads.get(tid) if dump is not None else None
        name = python.name if python is not None and python.name else look.comm
        state = look.state
        if tid in self.stopped:
            state = "T"
        elif state == "t" and tree.members[pid].tracer == os.getpid():
            state = "R"  # the tracer is about to let it run on
        elif state == "t" and moved is False:
            state = "T"
        return Thread(
            Tid(tid),
            Tgid(pid),
            name,
            state,
            call,
            wanted.wants,
            False,
            wanted.timeout_ns,
            cpu_ns=look.cpu_ns,
            switches=look.switches,
            moved=True if pid in refused and moved is None else moved,
            stack=python.frames if python is not None else (),
            start_ns=look.start_ns,
            owns_gil=python.owns_gil if python is not None else None,
        )

    # --- processes -------------------------------------------------------------------------------

    def _processes(self, tree: Tree, finder: ObjectFinder, refused: Mapping[int, str]) -> Mapping[Tgid, Process]:
        names = named(tree)
        found = {Tgid(pid): self._process(member, names[pid], refused) for pid, member in tree.members.items()}
        for pid in holders_of(finder.found):
            if Tgid(pid) not in found:
                found[Tgid(pid)] = _outsider(pid)
        return found

    def _process(self, member: Member, name: str, refused: Mapping[int, str]) -> Process:
        stat = member.stat
        ended = stat.state in ("Z", "X")
        return Process(
            Tgid(member.pid),
            Tgid(stat.ppid),
            name,
            member.argv,
            member.exe,
            stat.state,
            unseen=refused.get(member.pid, ""),
            python=member.python,
            pgid=stat.pgid,
            sid=stat.sid,
            uid=member.uid,
            exit_code=stat.exit_status >> 8 if ended and not stat.exit_status & 0x7F else None,
            exit_signal=stat.exit_status & 0x7F or None if ended else None,
            start_ns=stat.start_ns,
            caught_signals=member.caught_signals,
            had_threads=member.pid in self._maps and self._maps[member.pid].thread_heap,
        )


def _why_refused(pid: int) -> str:
    if not os.path.exists(f"/proc/{pid}"):
        return "it ended"
    from qtrace.capture import doctor  # only where something is refused

    why, lift = doctor.why_no_ptrace(child=False, pid=pid)
    return f"{why}; to lift that: {lift}" if lift else why


def _outsider(pid: int) -> Process:
    stat = procfs.stat(pid)
    state = stat.state if stat is not None else "X"
    arguments = procfs.argv(pid)
    name = arguments[0].rpartition("/")[2] if arguments else (stat.comm if stat is not None else f"pid {pid}")
    return Process(
        Tgid(pid),
        Tgid(stat.ppid if stat is not None else 0),
        name,
        arguments,
        "",
        state,
        in_tree=False,
        start_ns=stat.start_ns if stat is not None else None,
    )


def _moved(earlier: _ThreadLook, later: _ThreadLook) -> bool:
    before = (earlier.line, earlier.cpu_ns, earlier.switches, earlier.start_ns)
    return before != (later.line, later.cpu_ns, later.switches, later.start_ns)


def _telling(earlier: _ThreadLook | None, later: _ThreadLook) -> _ThreadLook:
    # One that goes round in a loop may be on the CPU by chance: the look that caught it in a call
    # says more. Not so for a futex in between two turns with the interpreter lock: threads that
    # take turns would all seem to wait for it at once.
    if earlier is None or later.line != "running" or earlier.line == "running" or earlier.state != "S":
        return later
    in_futex = earlier.line.partition(" ")[0] == str(number_of("futex", architecture()))
    return later if in_futex and later.cpu_ns - earlier.cpu_ns > _A_TURN_NS else earlier


@dataclass(slots=True)
class _LiveContext:
    """Answers questions about a call from the living process."""

    pid: Tgid
    finder: ObjectFinder

    def object_of(self, fd: Fd) -> tuple[ObjectId, ObjectKind] | None:
        return self.finder.identify(int(self.pid), int(fd))

    def word(self, address: int, private: bool) -> ObjectId:
        return self.finder.word(int(self.pid), address, private)

    def file_lock(self, fd: Fd) -> ObjectId:
        return self.finder.file_lock(int(self.pid), int(fd))

    def memory(self, address: int, size: int) -> bytes:
        return MemoryReader()(int(self.pid), address, min(size, 4096))

    def watched(self, fd: Fd) -> Sequence[tuple[Fd, int]]:
        return self.finder.watched(int(self.pid), int(fd))

    def now_ns(self, clock: int) -> int:
        try:
            return time.clock_gettime_ns(clock)
        except OSError:
            return time.monotonic_ns()


def require_process(pid: int) -> None:
    """Check that a process exists.

    Raises:
        TargetError: It does not.
    """
    if procfs.stat(pid) is None:
        raise TargetError(f"there is no process {pid}", "List the running ones with: ps -ef | grep python")
