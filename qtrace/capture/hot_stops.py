"""The hot stops in C (`hot_stops.c`), where qtrace was installed with a C compiler; without, the loop does all.

What is shared with the library is one block of memory: what each call needs, the threads that the loop
has made known and the calls that they are in, and a ring of ended calls. The loop's thread runs the
library without the interpreter's lock; any other may look into calls in progress and empty the ring.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import struct
import threading
from collections.abc import Callable, Iterable
from enum import IntEnum

from qtrace.model.records import CALL_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PURE_PYTHON = "QTRACE_PURE_PYTHON"
"""Set to anything, the library is not used."""
OpenCall = tuple[int, list[int], int, int]
"""Entry time, [nr, a0...a5], flags, head."""
MOST_CALLS = 512
_FDS, _WORDS, _THREADS, _TIDS, _RECORDS, _QUEUE = 1024, 256, 4096, 65536, 4096, 1024
_FD_UNKNOWN, _FD_WITHOUT_HEAD, _FD_WITH_HEAD = 0, 1, 2
_THREAD = struct.Struct("<iiIIq7QQQQq")
"""tid, pid, version, whether it is in a call, entry time, number and arguments, head, flags, address of its `Known`,
descriptor of its memory."""
_MEMORY = struct.Struct("<q")
"""The last of them."""
_TRIES = 100


TURN_STOPS = 100
"""So many stops of one thread come before those of others that have stopped meanwhile: about a millisecond."""


class How(IntEnum):
    """What a call needs at its entry or exit (enum how)."""

    BY_PYTHON = 0
    """A hook of the loop's."""
    PLAIN = 1
    """Nothing."""
    USES_FD = 2
    """That its descriptor has been looked up."""
    READS = 3
    """At the exit: the first bytes of what was read."""
    WRITES = 4
    """At the entry: that its descriptor has been looked up, and the first bytes of what is written."""
    USES_WORD = 5
    """That its futex word has been looked up, and how long it waits at most."""
    CLONES = 6
    """Nothing, unless its child shall not be traced."""
    WAITS_FOR = 7
    """At the exit: the status of the child that has ended."""


class Known(ctypes.Structure):
    """What is known of one process, as the library has to have it (struct known)."""

    _fields_ = (
        ("fds", ctypes.c_uint8 * _FDS),
        ("words", ctypes.c_uint64 * _WORDS),
        ("words_held", ctypes.c_uint32),
        ("enough_private", ctypes.c_uint32),
    )

    def put_fd(self, fd: int, headed: bool) -> None:
        """A descriptor has been looked up: whether the first bytes of its messages are wanted."""
        if fd < _FDS:
            self.fds[fd] = _FD_WITH_HEAD if headed else _FD_WITHOUT_HEAD

    def drop_fd(self, fd: int) -> None:
        """A descriptor has been closed, or is another one now."""
        if fd < _FDS:
            self.fds[fd] = _FD_UNKNOWN


class _Turns(ctypes.Structure):
    """struct turns, as far as it is used here."""

    _fields_ = (
        ("stops", ctypes.c_uint32),
        ("first", ctypes.c_uint32),
        ("queued", ctypes.c_uint32),
        ("rest", ctypes.c_uint32),
        ("times", ctypes.c_int64 * (2 + 3 * _QUEUE)),
    )


class _Shared(ctypes.Structure):
    """struct shared."""

    _fields_ = (
        ("handled", ctypes.c_uint64),
        ("ended", ctypes.c_uint64),
        ("taken", ctypes.c_uint64),
        ("architecture", ctypes.c_uint32),
        ("entries_slowly", ctypes.c_uint32),
        ("waits", ctypes.c_uint32),
        ("word_command", ctypes.c_uint32),
        ("word_private", ctypes.c_uint32),
        ("stopped_status", ctypes.c_uint32),
        ("entry", ctypes.c_uint8 * MOST_CALLS),
        ("exit", ctypes.c_uint8 * MOST_CALLS),
        ("place", ctypes.c_uint16 * _TIDS),
        ("turns", _Turns),
        ("threads", ctypes.c_uint64 * (_THREAD.size // 8 * _THREADS)),
        ("ring", ctypes.c_char * (CALL_BYTES * _RECORDS)),
    )


_LAYOUT = _Shared.ring.offset << 44 | _Shared.threads.offset << 24 | ctypes.sizeof(Known) << 8 | _THREAD.size
_LAYOUT ^= max(How) << 60


def library() -> ctypes.CDLL | None:
    """Return the library, or None where it was not built, was built for another version, or is not wanted."""
    if os.environ.get(PURE_PYTHON):
        return None
    found = importlib.util.find_spec("qtrace.capture._hot_stops")
    if found is None or found.origin is None:
        return None
    try:
        loaded = ctypes.CDLL(found.origin)
        loaded.hot_stops_layout.restype = ctypes.c_uint64
        return loaded if loaded.hot_stops_layout() == _LAYOUT else None
    except (OSError, AttributeError):
        return None


class OpenCalls:
    """Calls in progress, by tid: of threads that the library knows in its memory, of others in a dictionary.

    The loop's thread writes; any other may take a copy.
    """

    def __init__(self, hot: HotStops) -> None:
        """Make an empty one."""
        self._hot = hot
        self.others: dict[int, OpenCall] = {}

    def __contains__(self, tid: int) -> bool:
        """Whether a thread is in a call."""
        return self.get(tid) is not None

    def get(self, tid: int) -> OpenCall | None:
        """Return the call that a thread is in."""
        place = self._hot.places.get(tid)
        return self.others.get(tid) if place is None else self._hot.call_at(place, tid)

    def __setitem__(self, tid: int, call: OpenCall) -> None:
        """A thread has entered a call."""
        place = self._hot.places.get(tid)
        if place is None:
            self.others[tid] = call
        else:
            self._hot.put_call(place, call)

    def pop(self, tid: int, default: None = None) -> OpenCall | None:
        """Return the call that a thread has been in until now."""
        found = self.get(tid)
        if found is not None:
            del self[tid]
        return found

    def __delitem__(self, tid: int) -> None:
        """A thread is in no call any more."""
        place = self._hot.places.get(tid)
        if place is None:
            del self.others[tid]
        else:
            self._hot.put_call(place, None)

    def copy(self) -> dict[int, OpenCall]:
        """Return all of them. For any thread."""
        found = self.others.copy()
        for tid, place in self._hot.places.copy().items():
            call = self._hot.call_at(place, tid)
            if call is not None:
                found[tid] = call
        # One that has gone from there to here meanwhile was in neither.
        return self.others.copy() | found


class HotStops:
    """The library, and the memory that is shared with it."""

    def __init__(self, loaded: ctypes.CDLL, emit: Callable[[bytes], None]) -> None:
        """Make one that knows no thread yet.

        Args:
            loaded: What `library` returned.
            emit: Takes packed records.
        """
        self._emit = emit
        self._shared = _Shared()
        self._address = ctypes.byref(self._shared)
        loaded.hot_stops_begin()
        self._wait = loaded.hot_stops_wait
        self._heed = loaded.hot_stops_heed
        self._add_word = loaded.hot_stops_add_word
        self._add_word.argtypes = (ctypes.c_void_p, ctypes.c_uint64)
        self._add_word.restype = None
        memory = memoryview(self._shared).cast("B")
        self._threads = memory[_Shared.threads.offset :][: _THREAD.size * _THREADS]
        self._ring = memory[_Shared.ring.offset :][: CALL_BYTES * _RECORDS]
        self._lock = threading.Lock()
        self.places: dict[int, int] = {}
        """Place among the threads, by tid."""
        self._members: dict[int, list[int]] = {}
        self._known: dict[int, Known] = {}
        self._free = list(range(_THREADS - 1, 0, -1))
        self.open_calls = OpenCalls(self)

    @property
    def handled(self) -> int:
        """How many stops the library has handled."""
        return int(self._shared.handled)

    def prepare(
        self,
        architecture: int,
        entry: dict[int, How],
        exits: dict[int, How],
        waits: Iterable[int],
        bits: tuple[int, int],
    ) -> None:
        """Say what calls need.

        Args:
            architecture: AUDIT_ARCH of the calls that are meant.
            entry: By number, at the entry.
            exits: By number, at the exit.
            waits: The commands of futex(2) that wait.
            bits: Of its operation: those of the command, and the one of a private word.
        """
        shared = self._shared
        shared.architecture = architecture
        for numbers, table in ((entry, shared.entry), (exits, shared.exit)):
            for number, how in numbers.items():
                if 0 <= number < MOST_CALLS:
                    table[number] = how
        shared.waits = sum(1 << command for command in waits)
        shared.word_command, shared.word_private = bits[0] & 0xFFFFFFFF, bits[1]

    def heed(self, numbers: Iterable[int]) -> None:
        """Have signals, which Python has handlers for, end a `wait`."""
        for number in numbers:
            self._heed(int(number))

    def wait(self, options: int, entries_slowly: bool) -> tuple[int, int]:
        """Handle stops until there is one that the library cannot handle. From the loop's thread only.

        Args:
            options: Of waitpid(2).
            entries_slowly: Give back every entry.

        Returns:
            What waitpid(2) does; a tid of 0 where a signal has come, or nothing has happened.

        Raises:
            ChildProcessError: There is nobody to wait for.
            OSError: Another failure of waitpid(2).
        """
        shared = self._shared
        shared.entries_slowly = entries_slowly
        tid = self._wait(self._address, options)
        if shared.ended != shared.taken:
            self.take_ended()
        if tid < 0:
            if -tid == errno.ECHILD:
                raise ChildProcessError(-tid, os.strerror(-tid))
            raise OSError(-tid, os.strerror(-tid))
        return tid, shared.stopped_status

    def take_turns(self, shares_cpu: bool) -> None:
        """Say whether tracer and tracees share a CPU: then threads run on in turns. For any thread."""
        self._shared.turns.stops = TURN_STOPS if shares_cpu else 0

    def take_ended(self) -> None:
        """Hand on the calls that have ended. For any thread."""
        shared = self._shared
        with self._lock:
            taken, ended = shared.taken, shared.ended
            first, last = taken % _RECORDS, (ended - 1) % _RECORDS + 1
            if ended == taken:
                return
            if first < last:
                self._emit(bytes(self._ring[first * CALL_BYTES : last * CALL_BYTES]))
            else:
                self._emit(bytes(self._ring[first * CALL_BYTES :]) + bytes(self._ring[: last * CALL_BYTES]))
            shared.taken = ended

    # --- threads ---------------------------------------------------------------------------------

    def adopt(self, tid: int, pid: int, known: Known, memory: int = -1) -> None:
        """Have the library handle a thread's stops from now on, if there is room for it.

        Args:
            tid: The thread.
            pid: Its process.
            known: What is known of that.
            memory: Descriptor of its memory, until `close_memory`; -1 for none.
        """
        shared = self._shared
        if not self._free or shared.place[tid % _TIDS]:
            return
        place = self._free.pop()
        self._known[place] = known
        version = _THREAD.unpack_from(self._threads, place * _THREAD.size)[2]
        empty = (0,) * 10
        _THREAD.pack_into(
            self._threads, place * _THREAD.size, tid, pid, version + 2 & 0xFFFFFFFE, 0, *empty,
            ctypes.addressof(known), memory,
        )  # fmt: skip
        # In both for a moment, rather than in neither: others look.
        call = self.open_calls.others.get(tid)
        if call is not None:
            self.put_call(place, call)
        self._members.setdefault(pid, []).append(tid)
        self.places[tid] = place
        shared.place[tid % _TIDS] = place
        self.open_calls.others.pop(tid, None)

    def drop_thread(self, tid: int) -> None:
        """Have the loop handle a thread's stops from now on; it has ended, or is another one now."""
        place = self.places.get(tid)
        if place is None:
            return
        call = self.call_at(place, tid)
        pid = _THREAD.unpack_from(self._threads, place * _THREAD.size)[1]
        self._members[pid].remove(tid)
        if not self._members[pid]:
            del self._members[pid]
        self._shared.place[tid % _TIDS] = 0
        if call is not None:
            self.open_calls.others[tid] = call
        del self.places[tid]
        del self._known[place]
        self._free.append(place)

    def drop_process(self, pid: int) -> None:
        """The same for all threads of a process: what is known of it does not hold any more."""
        for tid in self._members.get(pid, [])[:]:
            self.drop_thread(tid)

    def close_memory(self, pid: int) -> None:
        """A process's memory is about to be closed."""
        for tid in self._members.get(pid, ()):
            _MEMORY.pack_into(self._threads, self.places[tid] * _THREAD.size + _THREAD.size - _MEMORY.size, -1)

    def add_word(self, known: Known, address: int) -> None:
        """A futex word has been looked up."""
        self._add_word(ctypes.addressof(known), address)

    def call_at(self, place: int, tid: int) -> OpenCall | None:
        """Return the call that the thread at a place is in. For any thread."""
        start = place * _THREAD.size
        for _ in range(_TRIES):
            raw = bytes(self._threads[start : start + _THREAD.size])
            fields: tuple[Any, ...] = _THREAD.unpack(raw)
            after = bytes(self._threads[start : start + _THREAD.size])
            if raw == after and not fields[2] & 1:
                if fields[0] != tid or not fields[3]:
                    return None
                return fields[4], list(fields[5:12]), fields[13], fields[12]
        return None  # it goes from call to call

    def put_call(self, place: int, call: OpenCall | None) -> None:
        """Say what call the thread at a place is in. From the loop's thread only."""
        start = place * _THREAD.size
        tid, pid, version, _, *rest, known, memory = _THREAD.unpack_from(self._threads, start)
        if call is None:
            _THREAD.pack_into(self._threads, start, tid, pid, version + 2 & 0xFFFFFFFE, 0, *rest, known, memory)
            return
        entry, words, flags, head = call
        _THREAD.pack_into(
            self._threads, start, tid, pid, version + 2 & 0xFFFFFFFE, 1, entry, *words, head, flags, known, memory
        )
