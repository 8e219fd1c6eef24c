"""One moment of a tree of processes: the same for a live look and for a recording.

`capture` takes a snapshot from /proc, `decode` builds one from a recording's history, and the
wait-for graph knows nothing else. A snapshot states facts; who can wake whom is the business of
`analyse`. What could not be seen is said (`Process.unseen`), never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind, WaitKind


@dataclass(frozen=True, slots=True)
class Frame:
    """A Python frame; stacks are innermost first."""

    file: str
    line: int
    function: str
    """As the interpreter names it: ``join`` up to 3.10, ``Thread.join`` from 3.11."""
    source: str = ""
    """The line's text, stripped; empty if the file could not be read."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Local names to py-spy's text of the value, such as ``<Thread at 0x7f...>`` or ``65592``."""
    around: tuple[str, ...] = ()
    """Heads of the statements around the line within its function, innermost first, as
    `qtrace.model.around.heads_around` gives them: ``with lock``, ``while True``, ``try``.
    Says which locks a thread holds and whether it goes round in a loop. Only needed for the
    program's own files, not for the standard library's."""
    calls: tuple[str, ...] = ()
    """What the innermost ``while`` loop around the line calls, as `qtrace.model.loops.loop_calls` gives
    it; empty where there is no loop, or the file is the library's."""
    ends: tuple[str, ...] = ()
    """Calls that end processes among those still to come, as `qtrace.model.loops.ending_calls` gives them."""
    ahead: tuple[str, ...] = ()
    """What its function has still to call, as `qtrace.model.loops.calls_ahead` gives it; empty for the library."""
    behind: tuple[str, ...] = ()
    """What stands above the line in its function, as `qtrace.model.loops.calls_behind` gives it."""
    made: tuple[str, ...] = ()
    """Classes of the locks that the line takes, as `qtrace.model.loops.made_as` gives them."""


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that a thread is inside of."""

    name: str
    args: tuple[int, ...]
    text: str
    """As strace prints an unfinished call: ``read(3, ``, ``wait4(30644, ``."""
    entered_ns: int | None = None
    """CLOCK_MONOTONIC; None for a live look, which does not know."""


@dataclass(frozen=True, slots=True)
class Want:
    """One event that would end, or help to end, a thread's wait."""

    kind: WaitKind
    object_id: ObjectId
    fd: Fd | None = None
    access: str = ""
    """What the waiter does there: ``r`` or ``w``; empty where it has no direction."""
    requested_bytes: int | None = None
    """How many bytes a blocked read or write asked for."""


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread at the moment of the snapshot."""

    tid: Tid
    pid: Tgid
    name: str
    """Python's name of the thread where known, else the kernel's (comm)."""
    state: str
    """The letter of /proc/PID/stat: R, S, D, T, t, Z, X."""
    call: Call | None
    """None while it runs in user space."""
    wants: tuple[Want, ...] = ()
    needs_all: bool = False
    """True where every want must come true, False where any one is enough."""
    timeout_ns: int | None = None
    """How long the call waits at most; None: for ever. A timeout always comes: the clock is alive."""
    since_ns: int | None = None
    """When the present wait began, CLOCK_MONOTONIC; None if unknown."""
    cpu_ns: int = 0
    switches: int = 0
    """Voluntary and involuntary context switches."""
    moved: bool | None = None
    """Whether call, CPU time or switches changed between the two looks; None: one look only."""
    stack: tuple[Frame, ...] = ()
    start_ns: int | None = None
    owns_gil: bool | None = None
    """Whether it holds its interpreter's lock, as py-spy reports it; None: unknown."""
    spent_ns: int | None = None
    """CPU time used between the two looks; None: one look only."""

    @property
    def is_main(self) -> bool:
        """Whether it is its process's main thread."""
        return int(self.tid) == int(self.pid)


@dataclass(frozen=True, slots=True)
class Process:
    """A process at the moment of the snapshot, living or dead."""

    pid: Tgid
    ppid: Tgid
    name: str
    """For people: multiprocessing's name where known ("Process-1"), else script or command."""
    argv: tuple[str, ...] = ()
    exe: str = ""
    state: str = "S"
    """The main thread's letter; Z for a zombie, X for one that is gone."""
    in_tree: bool = True
    """False for a process outside the tree that holds one of the tree's objects."""
    unseen: str = ""
    """Why its threads or descriptors could not be read; empty if they could."""
    python: bool = False
    pgid: int = 0
    sid: int = 0
    uid: int = 0
    stop_signal: int | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    address_space: Tgid | None = None
    """Shared with this process (CLONE_VM); None: its own."""
    caught_signals: int = 0
    """SigCgt of /proc/PID/status: signals for which the program has a handler."""
    had_threads: bool = False
    """Its memory shows a heap that was made for another thread, which may have ended."""

    @property
    def alive(self) -> bool:
        """Whether it can still run (neither a zombie nor gone)."""
        return self.state not in ("Z", "X")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has an object in hand: an open descriptor, or a mapping of the word."""

    pid: Tgid
    fd: Fd | None = None
    access: str = "rw"
    """``r``, ``w`` or ``rw``."""


@dataclass(frozen=True, slots=True)
class WaitObject:
    """Something threads wait on, as the kernel describes it at this moment."""

    object_id: ObjectId
    kind: ObjectKind
    label: str = ""
    """In words, as far as the kernel's facts alone go: "pipe", "unix socket", "/tmp/a.lock"."""
    bytes: int | None = None
    """Level of a pipe or socket receive queue, in bytes; counter of an eventfd."""
    capacity: int | None = None
    """F_GETPIPE_SZ, in bytes; the socket's send buffer."""
    peer: ObjectId | None = None
    """The other end of a socket."""
    remote: bool = False
    """The peer is outside this host, or cannot be found on it."""
    listening: bool = False
    value: int | None = None
    """The shared word: a semaphore's value, a futex word."""
    waiters: int | None = None
    """A semaphore's count of waiters."""
    owner_tid: Tid | None = None
    """Who owns it by the kernel's or the C library's own record: pthread mutex, file lock."""
    owner_pid: Tgid | None = None
    mapping: str = ""
    """What a futex word lies in: a library's path, ``[heap]``, ``/dev/shm/sem.x``, ``anon``."""
    holders: tuple[Holder, ...] = ()
    """Everyone who has it, in the tree or not."""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process or thread ended, and in the middle of what."""

    tid: Tid
    pid: Tgid
    name: str
    time_ns: int
    exit_code: int | None
    exit_signal: int | None
    call: Call | None = None
    """The call that it was inside of; None if it ended between calls or by exit."""
    object_id: ObjectId | None = None
    """What that call was on."""
    stack: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class Framing:
    """Where a byte stream of Connection messages stands."""

    object_id: ObjectId
    message_bytes: int
    """Header and body of the message that is not complete."""
    received_bytes: int
    """How much of it the reader has taken."""
    written_bytes: int
    """How much of it was ever put in."""
    writer_pid: Tgid
    writer_tid: Tid


@dataclass(frozen=True, slots=True)
class Use:
    """What one process did with one object, over the recording."""

    reads: int = 0
    writes: int = 0
    waits: int = 0
    wakes: int = 0
    last_ns: int = 0


@dataclass(frozen=True, slots=True)
class LastTaker:
    """Who came back last from a wait on a lock's word and has not woken anyone since."""

    object_id: ObjectId
    tid: Tid
    pid: Tgid
    time_ns: int
    why: str


@dataclass(frozen=True, slots=True)
class History:
    """What a recording knows beyond the moment; empty for a live look."""

    deaths: tuple[Death, ...] = ()
    """Processes and threads that ended, in the order of time."""
    framing: Mapping[ObjectId, Framing] = field(default_factory=dict)
    message_streams: frozenset[ObjectId] = frozenset()
    """Pipes and sockets through which messages of a Connection or queue have gone."""
    uses: Mapping[tuple[Tgid, ObjectId], Use] = field(default_factory=dict)
    takers: Mapping[ObjectId, LastTaker] = field(default_factory=dict)
    fork_threads: Mapping[Tgid, tuple[Tid, ...]] = field(default_factory=dict)
    """For each process made by fork: the threads its parent had at that moment."""
    creators: Mapping[ObjectId, Tgid] = field(default_factory=dict)
    children_made: Mapping[Tgid, int] = field(default_factory=dict)
    """How many child processes each process made."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree of processes at one moment."""

    time_ns: int
    root_pid: Tgid
    """The process the user started or named."""
    processes: Mapping[Tgid, Process]
    threads: Mapping[Tid, Thread]
    objects: Mapping[ObjectId, WaitObject]
    history: History = field(default_factory=History)
    source: str = "live"
    """``live``, or ``recording``."""
    looks_apart_ns: int | None = None
    """Time between the two looks that `Thread.moved` compares; None: one look."""
    uncertain: tuple[str, ...] = ()
    """Sentences on what this snapshot could not see, beyond single processes."""
