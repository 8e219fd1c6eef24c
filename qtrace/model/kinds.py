"""Closed sets of words: kinds of wait and of object, verdicts, certainty, roles, pattern ids.

The values are contracts: they stand in the JSON, in the tables and in the recording.
"""

from __future__ import annotations

from enum import StrEnum


class WaitKind(StrEnum):
    """What a blocked thread waits for; one colour each in every figure."""

    PIPE_FULL = "pipe-full"
    PIPE_EMPTY = "pipe-empty"
    SOCKET_FULL = "socket-full"
    SOCKET_EMPTY = "socket-empty"
    ACCEPT = "accept"
    CONNECT = "connect"
    LOCK = "lock"
    SEMAPHORE = "semaphore"
    CONDITION = "condition"
    THREAD_JOIN = "thread-join"
    GIL = "gil"
    CHILD_EXIT = "child-exit"
    POLL = "poll"
    SLEEP = "sleep"
    TIMEOUT = "timeout"
    SIGNAL = "signal"
    STOPPED = "stopped"
    FILE_LOCK = "file-lock"
    EVENTFD = "eventfd"
    EXTERNAL = "external"


class ObjectKind(StrEnum):
    """What kind of thing an object id stands for."""

    PIPE = "pipe"
    FIFO = "fifo"
    SOCKET = "socket"
    EVENTFD = "eventfd"
    EPOLL = "epoll"
    FUTEX = "futex"
    SEMAPHORE = "semaphore"
    CHILD = "child"
    PIDFD = "pidfd"
    FILE = "file"
    FILE_LOCK = "file-lock"
    TTY = "tty"
    CLOCK = "clock"
    SIGNAL = "signal"
    OTHER = "other"


class VerdictKind(StrEnum):
    """The answer in one word, worst first in `WORST_FIRST`."""

    DEADLOCK = "deadlock"
    ORPHANED = "orphaned"
    LIVELOCK = "livelock"
    EXTERNAL = "external"
    TIMED = "timed"
    RUNNING = "running"
    FINISHED = "finished"


WORST_FIRST: tuple[VerdictKind, ...] = tuple(VerdictKind)
STUCK: frozenset[VerdictKind] = frozenset({VerdictKind.DEADLOCK, VerdictKind.ORPHANED, VerdictKind.LIVELOCK})
"""The verdicts that are hangs: `explain` exits with 1."""


class Certainty(StrEnum):
    """How sure an edge or a verdict is."""

    PROVEN = "proven"
    """Follows from the kernel's state and a complete view of the holders."""
    LIKELY = "likely"
    """Needs an assumption, which is named beside it."""
    UNKNOWN = "unknown"
    """A holder could not be seen."""


class Role(StrEnum):
    """What a thread is for, as far as its frames or its place tell."""

    MAIN = "main"
    FEEDER = "feeder"
    WORKER = "worker"
    HANDLER = "handler"
    """A helper thread of a library: pool and executor handlers, listeners, watchers."""
    TRACKER = "tracker"
    """The resource tracker's process."""
    FORK_SERVER = "fork-server"
    MANAGER = "manager"
    """A thread of a multiprocessing manager's server."""
    THREAD = "thread"
    """Any other."""


class PatternId(StrEnum):
    """Known causes, by an id that never changes; each has a page in the documentation."""

    JOIN_BEFORE_DRAIN = "join-before-drain"
    EXIT_BEFORE_DRAIN = "exit-before-drain"
    TORN_MESSAGE = "torn-message"
    DEAD_LOCK_HOLDER = "dead-lock-holder"
    LOCK_ORDER = "lock-order"
    SELF_RELOCK = "self-relock"
    FORK_HELD_LOCK = "fork-held-lock"
    POOL_WORKER_LOST = "pool-worker-lost"
    POPEN_PIPE_FULL = "popen-pipe-full"
    BOTH_ENDS_FULL = "both-ends-full"
    INHERITED_WRITE_END = "inherited-write-end"
    OWN_WRITE_END = "own-write-end"
    MISSING_SENTINEL = "missing-sentinel"
    BOUNDED_QUEUE_NO_CONSUMER = "bounded-queue-no-consumer"
    TASK_DONE_MISSING = "task-done-missing"
    MISSING_PARTICIPANT = "missing-participant"
    GRANDCHILD_HOLDS_PIPE = "grandchild-holds-pipe"
    SIGNAL_HANDLER_REENTRY = "signal-handler-reentry"
    POOL_EXHAUSTED = "pool-exhausted"
    POOL_RESPAWN_STORM = "pool-respawn-storm"
    PRODUCER_GONE = "producer-gone"
    BOTH_ENDS_EMPTY = "both-ends-empty"
    EVENT_LOOP_BLOCKED = "event-loop-blocked"
    SELF_PIPE_FULL = "self-pipe-full"
