"""What the feeder thread does between the deque and the pipe: pickle, and gather.

The feeder takes what is in the deque at that moment, pickles it, and hands it over
as one batch, so that many small messages cost one lock, few writes and few releases
of the interpreter lock. It never waits for more: a lone item leaves at once.

No item is kept waiting for the pickling of a later one, which may take long, wait for
something, or end the process: beyond its first item a batch has only such as pickle
quickly and without running any code of the program (numbers, short strings, and small
containers of them).
"""

from __future__ import annotations

import collections
import io
import pickle
import time
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from .wire import LONG_HEADER_BYTES, MAX_JOINED_BYTES, MAX_KEPT_BYTES, FramedMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .wire import Payload

__all__ = [
    "MAX_BATCH_MESSAGES",
    "MAX_LARGE_MESSAGES",
    "SENTINEL",
    "Batch",
    "FeederClock",
    "Pickling",
    "gather",
    "is_quick",
]

# Put into the deque by close(); tells the feeder to end. Compared by identity.
SENTINEL = object()

MAX_BATCH_MESSAGES = 256

# Pickled by C code alone, whatever reducers are registered.
_ATOMS = frozenset({int, float, bool, type(None)})
_STRINGS = frozenset({bytes, str})
_CONTAINERS = frozenset({tuple, list, dict, set, frozenset})
_MAX_DEPTH = 3
_MAX_ELEMENTS = 32

# As many pieces of memory are kept for large messages: what a batch of a robust queue may have.
MAX_LARGE_MESSAGES = 3

# Pickling a string of this size takes some 10 us: what waits for it hardly notices.
MAX_QUICK_BYTES = 1 << 17

_plain_dumps = pickle.dumps


class Pickling:
    """Pickles by multiprocessing's rules, with picklers and memory that are used again.

    `ForkingPickler.dumps` builds a pickler and its chained dispatch table each time, which
    costs more than to pickle a small item. And it grows new memory for a large one, which the
    C library, where it is much, gives back to the system: every page of it is then faulted in
    again for the next (18 faults a message of 100 KiB, a third of the time it took to send).

    Not for use by two threads.
    """

    def __init__(self) -> None:
        # Taken out while in use: an error, or a reducer that pickles through us, must not meet one
        # half used, nor may one be written to while somebody reads what is in it.
        self._spare: list[_PicklerMemory] = []
        self._lent: list[_PicklerMemory] = []

    def dumps(self, obj: object) -> Payload:
        """Return the same bytes as `ForkingPickler.dumps(obj)`, a large item with its header.

        That one lies in memory that is used again after `reuse()`.
        """
        own = self._spare.pop() if self._spare else _PicklerMemory()
        memory = own.memory
        memory.seek(LONG_HEADER_BYTES)
        own.pickler.dump(obj)
        # Also drops the references to what was pickled.
        own.pickler.clear_memo()
        size = memory.tell() - LONG_HEADER_BYTES
        if size > MAX_JOINED_BYTES:
            self._lent.append(own)
            return FramedMessage(memory.getbuffer(), size)
        memory.seek(LONG_HEADER_BYTES)
        payload = memory.read(size)
        self._spare.append(own)
        return payload

    def reuse(self) -> None:
        """Use the memory of large items again. Nobody may have a view of it any more."""
        for lent in self._lent:
            if len(self._spare) < MAX_LARGE_MESSAGES and lent.memory.seek(0, io.SEEK_END) <= MAX_KEPT_BYTES:
                self._spare.append(lent)
        self._lent.clear()

    def forget(self) -> None:
        """Leave the memory of large items to whoever still has a view of it."""
        self._lent.clear()


class _PicklerMemory:
    # What was pickled before stays behind what is pickled next: its size is where writing ended.
    __slots__ = ("memory", "pickler")

    def __init__(self) -> None:
        self.memory = io.BytesIO()
        self.pickler = reduction.ForkingPickler(self.memory)


def is_quick(obj: object, depth: int = _MAX_DEPTH) -> bool:
    """Return whether pickling `obj` is quick, and runs no code but pickle's own."""
    kind = type(obj)
    if kind in _ATOMS:
        return True
    if kind in _STRINGS:
        return len(obj) <= MAX_JOINED_BYTES  # type: ignore[arg-type]
    if kind not in _CONTAINERS or not depth or len(obj) > _MAX_ELEMENTS:  # type: ignore[arg-type]
        return False
    # A copy: other threads may go on changing it.
    elements = [*obj.items()] if isinstance(obj, dict) else [*obj]  # type: ignore[misc]
    return all(is_quick(element, depth - 1) for element in elements)


def _is_quick_string(obj: object) -> bool:
    return type(obj) in _STRINGS and len(obj) <= MAX_QUICK_BYTES  # type: ignore[arg-type]


class FeederClock:
    """What the feeder is doing and since when, for `stats()`."""

    NOT_STARTED, IDLE, PICKLING, SENDING, ENDED = range(5)
    NAMES = ("not started", "waiting for items", "pickling", "sending", "ended")

    def __init__(self) -> None:
        self.state = self.NOT_STARTED
        self.since_ns = time.monotonic_ns()
        # The feeder found nothing to do: the next put must wake it.
        self.idle = False
        self._taking = 0
        self._taken: Sequence[object] = ()

    def enter(self, state: int) -> None:
        """Note that the feeder is in `state` from now on."""
        self.state = state
        self.since_ns = time.monotonic_ns()

    def take_into(self, batch: Sequence[object]) -> None:
        """Note that the feeder moves items from the deque into `batch`, one at a time."""
        self._taking = 1
        self._taken = batch

    def taken(self) -> None:
        """Note that the batch is complete."""
        self._taking = 0

    def sent(self) -> None:
        """Note that nothing is left of the batch."""
        self._taken = ()

    @property
    def pending(self) -> int:
        """Items taken from the deque and not yet in the pipe; one too many while some are being taken."""
        return self._taking + len(self._taken)


class Batch:
    """What one round took from the deque.

    Attributes:
        payloads: pickled items, in order.
        ended: the sentinel was met: this is the last batch.
        error: what pickling the item after the payloads raised, and that item.
    """

    __slots__ = ("ended", "error", "payloads")

    def __init__(self) -> None:
        self.payloads: list[Payload] = []
        self.ended = False
        self.error: tuple[Exception, object] | None = None


def gather(
    buffer: collections.deque[Any], dumps: Callable[[object], Payload], clock: FeederClock, large_messages: int = 1
) -> Batch:
    """Take items from `buffer` and pickle them until it is empty or the batch is large enough.

    Args:
        dumps: pickles what is large, or not quick to pickle.
        large_messages: how many that have a write of their own may be in a batch. Worth more
            than one where handing on the write lock costs much.
    """
    batch = Batch()
    payloads = batch.payloads
    clock.take_into(payloads)
    room_bytes = MAX_JOINED_BYTES
    for _ in range(min(len(buffer), MAX_BATCH_MESSAGES)):
        obj = buffer[0]
        if obj is SENTINEL:
            batch.ended = True
            break
        quick = is_quick(obj)
        if payloads and not (quick or (large_messages > 1 and _is_quick_string(obj))):
            break
        buffer.popleft()
        try:
            payload = _plain_dumps(obj) if quick else dumps(obj)
        except Exception as error:  # noqa: BLE001 - goes to the queue's error hook
            batch.error = (error, obj)
            break
        payloads.append(payload)
        size = len(payload)
        room_bytes -= size if size <= MAX_JOINED_BYTES else MAX_JOINED_BYTES // large_messages
        if room_bytes <= 0:
            break
    clock.taken()
    return batch
