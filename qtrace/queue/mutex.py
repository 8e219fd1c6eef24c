"""A lock between processes that the kernel releases when its holder dies.

A POSIX robust mutex (pthread_mutexattr_setrobust(3)) in shared memory, through ctypes.
Why this and not another:

- the semaphores of multiprocessing have no owner: whoever dies with one keeps it for ever;
- flock and fcntl locks are released at death too, but cost two system calls even where
  nobody contends, and have no timeout; fcntl locks also see deadlocks between threads
  that are none (they count by process);
- an owner's pid in shared memory cannot be set and tested in one step from Python, and
  pids are used again.

With a robust mutex the C library and the kernel see to every instruction between "taken"
and "noted who took it" (robust_futexes in the kernel's documentation): the next one to
lock it is told that the owner died, and it is for the caller to repair what the lock
guards. There is no system call where nobody contends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .contention import await_release

if TYPE_CHECKING:
    import mmap
    from types import TracebackType

__all__ = ["MUTEX_BYTES", "Holder", "RobustMutex"]

# sizeof(pthread_mutex_t) is 40 on x86_64 and 48 on aarch64: one cache line each.
MUTEX_BYTES = 64

# Values of pthread.h, the same in glibc and musl.
PTHREAD_PROCESS_SHARED = 1
PTHREAD_MUTEX_ERRORCHECK = 2
PTHREAD_MUTEX_ROBUST = 1

# FUTEX_TID_MASK of linux/futex.h: a robust futex word holds its owner's thread id.
FUTEX_TID_MASK = 0x3FFFFFFF

# A waiter looks again this often. The main thread must, to run Python's signal handlers; and
# all must, because a wake-up is lost with a waiter that is killed after it was woken and before
# it ran, if another thread has taken the mutex meanwhile without a system call: its word then
# no longer says that somebody waits, and the kernel, which at a death wakes the next one only
# if the mutex is free or was the dead one's, cannot know.
SLICE_S = 0.1


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Pthread:
    # PyDLL keeps the interpreter lock during the call: right for what never blocks, and
    # the reason that an uncontended lock is cheap. CDLL lets it go, for the wait.
    def __init__(self) -> None:
        quick = ctypes.PyDLL(None)
        waiting = ctypes.CDLL(None)
        self.attr_init = quick.pthread_mutexattr_init
        self.attr_set_shared = quick.pthread_mutexattr_setpshared
        self.attr_set_type = quick.pthread_mutexattr_settype
        self.attr_set_robust = quick.pthread_mutexattr_setrobust
        self.init = quick.pthread_mutex_init
        self.trylock = quick.pthread_mutex_trylock
        self.unlock = quick.pthread_mutex_unlock
        self.consistent = quick.pthread_mutex_consistent
        # glibc 2.30; the fallback waits on the wall clock, in slices, so that a step of it costs one slice.
        clocklock = getattr(waiting, "pthread_mutex_clocklock", None)
        if clocklock is None:
            self.clock = time.CLOCK_REALTIME
            self.timedlock: Any = waiting.pthread_mutex_timedlock
        else:
            self.clock = time.CLOCK_MONOTONIC
            self.timedlock = lambda mutex, until: clocklock(mutex, time.CLOCK_MONOTONIC, until)


_pthread = _Pthread()


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        tid: the thread.
        pid: its process; None if it is gone already, or of a process we may not see.
    """

    tid: int
    pid: int | None


class RobustMutex:
    """A robust mutex at an offset of a shared mapping, with the interface of a multiprocessing Lock.

    It belongs to the thread that took it. A thread that takes it twice gets a RuntimeError.

    Attributes:
        brief: it is mostly held for a microsecond or two: look again before sleeping on it.
    """

    __slots__ = ("_address", "_memory", "_owner", "brief")

    def __init__(self, mapping: mmap.mmap, offset: int) -> None:
        # Exports the mapping's buffer, which keeps the memory mapped while the lock exists.
        self._memory = (ctypes.c_char * MUTEX_BYTES).from_buffer(mapping, offset)
        self._address = ctypes.c_void_p(ctypes.addressof(self._memory))
        self.brief = True
        word = offset + _owner_word_offset()
        self._owner = memoryview(mapping)[word : word + 4].cast("I")

    def initialize(self) -> None:
        """Make the memory an unlocked mutex. Once, before anybody else has the mapping."""
        attributes = ctypes.create_string_buffer(64)
        for code in (
            _pthread.attr_init(attributes),
            _pthread.attr_set_shared(attributes, PTHREAD_PROCESS_SHARED),
            _pthread.attr_set_type(attributes, PTHREAD_MUTEX_ERRORCHECK),
            _pthread.attr_set_robust(attributes, PTHREAD_MUTEX_ROBUST),
            _pthread.init(self._address, attributes),
        ):
            if code:
                raise OSError(code, os.strerror(code))

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; return False if that did not work at once, or within `timeout` seconds.

        Also true if its holder died: the caller finds that out by what the lock guards.
        """
        code = _pthread.trylock(self._address)
        if code == 0:
            return True
        if code != errno.EBUSY:
            return self._taken(code)
        return self._wait(timeout) if block else False

    def _is_taken(self) -> bool:
        return self._owner[0] & FUTEX_TID_MASK != 0

    def release(self) -> None:
        """Let go of the lock. Only the thread that took it may."""
        code = _pthread.unlock(self._address)
        if code:
            raise RuntimeError(f"release of a lock that this thread does not hold ({os.strerror(code)})")

    def holder(self) -> Holder | None:
        """Return who holds the lock now; nobody, or somebody dead, is None."""
        tid = self._owner[0] & FUTEX_TID_MASK
        if not tid:
            return None
        return Holder(tid, _process_of(tid))

    @property
    def locked(self) -> bool:
        """Whether somebody holds the lock, dead holders included."""
        return bool(self._owner[0] & FUTEX_TID_MASK)

    def _wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.brief:
            await_release(self._is_taken, deadline)
            code = _pthread.trylock(self._address)
            if code != errno.EBUSY:
                return self._taken(code)
        until = _Timespec()
        while True:
            wait_s = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
            if wait_s <= 0:
                return False
            until_ns = time.clock_gettime_ns(_pthread.clock) + int(wait_s * 1e9)
            until.tv_sec, until.tv_nsec = divmod(until_ns, 1_000_000_000)
            code = _pthread.timedlock(self._address, ctypes.byref(until))
            if code != errno.ETIMEDOUT:
                return self._taken(code)

    def _taken(self, code: int) -> bool:
        if code == errno.EOWNERDEAD:
            # What the lock guards says for itself whether it needs repair, also to whoever
            # takes the lock after us if we die right here.
            _pthread.consistent(self._address)
        elif code == errno.EDEADLK:
            raise RuntimeError("this thread already holds the lock (a signal handler inside get or put?)")
        elif code:
            raise OSError(code, os.strerror(code))
        return True

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_word_offset: int | None = None


def _owner_word_offset() -> int:
    # The futex word is the first of glibc's mutex and the second of musl's. That a robust
    # one holds the owner's tid is the kernel's rule, so take one and look.
    global _word_offset
    if _word_offset is None:
        memory = ctypes.create_string_buffer(MUTEX_BYTES)
        address = ctypes.c_void_p(ctypes.addressof(memory))
        attributes = ctypes.create_string_buffer(64)
        _pthread.attr_init(attributes)
        _pthread.attr_set_robust(attributes, PTHREAD_MUTEX_ROBUST)
        _pthread.init(address, attributes)
        _pthread.trylock(address)
        words = memoryview(memory.raw).cast("I")
        _pthread.unlock(address)
        tid = threading.get_native_id()
        _word_offset = next((4 * place for place in range(4) if words[place] & FUTEX_TID_MASK == tid), 0)
    return _word_offset


def _process_of(tid: int) -> int | None:
    # Tgid of proc_pid_status(5); /proc/TID is readable for every thread, though not listed.
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                if line.startswith("Tgid:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
